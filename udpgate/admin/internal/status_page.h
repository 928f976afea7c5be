// The page at `/`: status_page.html, as it is, embedded by a genrule.
#ifndef UDPGATE_ADMIN_INTERNAL_STATUS_PAGE_H_
#define UDPGATE_ADMIN_INTERNAL_STATUS_PAGE_H_

namespace udpgate {
namespace admin {
namespace internal {

extern const char kStatusPage[];

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_STATUS_PAGE_H_
