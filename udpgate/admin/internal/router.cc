#include "udpgate/admin/internal/router.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "udpgate/admin/internal/query.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::nlohmann::json;

// RFC 9110 section 9, and PATCH of RFC 5789. Those without a route have no
// path.
constexpr absl::string_view kMethods[] = {"GET",     "HEAD",   "POST",
                                          "PUT",     "DELETE", "CONNECT",
                                          "OPTIONS", "TRACE",  "PATCH"};
// If two readers took different ones, they would decide differently.
constexpr absl::string_view kSingleHeaders[] = {"Authorization",
                                                "Content-Type"};

constexpr struct {
  const char* name;
  const char* value;
} kOfEachResponse[] = {
    {"Cache-Control", "no-store"},
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
    {"Content-Security-Policy",
     "default-src 'none'; style-src 'unsafe-inline'; script-src "
     "'unsafe-inline'; connect-src 'self'; img-src data:; "
     "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"}};

// False: `response` says what is wrong with the request.
bool Check(const http::Request& request, http::Response* response) {
  if (std::find(std::begin(kMethods), std::end(kMethods), request.method) ==
      std::end(kMethods)) {
    SetError(response, 400, "the request cannot be processed");
    return false;
  }
  if (request.FindHeader("Content-Encoding") != nullptr) {
    SetError(response, 501, "a body must have no encoding");
    return false;
  }
  for (const absl::string_view name : kSingleHeaders) {
    const auto is_same = [name](const http::Header& header) {
      return absl::EqualsIgnoreCase(header.name, name);
    };
    if (std::count_if(request.headers.begin(), request.headers.end(), is_same) >
        1) {
      SetError(response, 400, absl::StrCat("duplicate header: ", name));
      return false;
    }
  }
  return true;
}

}  // namespace

void Router::Get(const std::string& path, Handler handler) {
  routes_[{"GET", path}] = std::move(handler);
}

void Router::Post(const std::string& path, Handler handler) {
  routes_[{"POST", path}] = std::move(handler);
}

http::Response Router::Process(const http::Request& request) const {
  http::Response response;
  if (Check(request, &response) && admit_(request, &response)) {
    // A hook of the host program may throw.
    try {
      Route(request, &response);
    } catch (...) {
      response = http::Response();
      SetError(&response, 500, "internal error");
    }
  }
  for (const auto& header : kOfEachResponse) {
    response.headers.push_back({header.name, header.value});
  }
  return response;
}

void Router::Route(const http::Request& request,
                   http::Response* response) const {
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  const auto route = routes_.find({method, std::string(PathOf(request))});
  if (route == routes_.end()) return SetError(response, 404, "no such path");
  route->second(request, response);
}

void SetJson(http::Response* response, int status, const json& value) {
  response->status = status;
  // A label or message of the host program may be invalid UTF-8.
  response->body =
      value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  response->content_type = "application/json";
}

void SetError(http::Response* response, int status, const std::string& error) {
  SetJson(response, status, {{"error", error}});
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
