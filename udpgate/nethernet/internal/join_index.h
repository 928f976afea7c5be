// All joins of a table, by ufrag, by id and by age, and what ends when.
#ifndef UDPGATE_NETHERNET_INTERNAL_JOIN_INDEX_H_
#define UDPGATE_NETHERNET_INTERNAL_JOIN_INDEX_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "udpgate/nethernet/internal/join_tag.h"
#include "udpgate/nethernet/join.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// Joins that may have the same ufrag: those of some stacks have four
// characters, so it happens. Each one costs a look at a datagram's integrity.
inline constexpr size_t kSameUfragMax = 4;

// Threads: one at a time.
class JoinIndex {
 public:
  using SameUfrag = std::array<std::shared_ptr<JoinTag>, kSameUfragMax>;

  explicit JoinIndex(const JoinTableOptions& options) : options_(options) {}

  // The joins with this ufrag, those that have expired left out; their number.
  // Does not allocate memory.
  size_t FindUfrag(absl::string_view ufrag, int64_t now_nanoseconds,
                   SameUfrag* found) const;
  // Null if there is none.
  std::shared_ptr<JoinTag> FindId(absl::string_view id) const;
  bool HasRoomForUfrag(absl::string_view ufrag) const;

  // Its id must be new, and its ufrag must have room.
  void Add(std::shared_ptr<JoinTag> tag, JoinList list,
           int64_t created_nanoseconds, int64_t listed_nanoseconds);
  void Move(JoinTag* tag, JoinList list, int64_t listed_nanoseconds);
  // Takes it out of everything. The tag lives on while sessions refer to it.
  void Remove(JoinTag* tag);

  // Removes up to `count_max` joins that have expired, and counts them; whether
  // there may be more.
  bool Sweep(int64_t now_nanoseconds, int count_max, JoinTableStats* stats);
  // Removes the oldest joins of lists that are too long, a few at a time: there
  // are many only if the limit was changed.
  void TrimLists(JoinTableStats* stats);
  bool IsExpired(const JoinTag& tag, int64_t now_nanoseconds) const;

  // Up to `count_max` joins whose number is at least `*number`, which becomes
  // the next one; empty at the end.
  std::vector<std::shared_ptr<JoinTag>> Slice(uint64_t* number,
                                              size_t count_max) const;

  int64_t size(JoinList list) const {
    return static_cast<int64_t>(lists_[static_cast<size_t>(list)].size());
  }
  const JoinTableOptions& options() const { return options_; }
  void SetOptions(const JoinTableOptions& options) { options_ = options; }

 private:
  using List = std::list<JoinTag*>;

  List& list(JoinList kind) { return lists_[static_cast<size_t>(kind)]; }
  static List::iterator PlaceOf(List* joins, int64_t listed_nanoseconds);
  int64_t LifeNanoseconds(JoinList list) const;
  bool SweepList(JoinList kind, int64_t now_nanoseconds, int* count_max,
                 uint64_t* counter);
  void TrimList(JoinList kind, int64_t size_max, JoinTableStats* stats);

  JoinTableOptions options_;
  absl::flat_hash_map<std::string, std::vector<std::shared_ptr<JoinTag>>>
      by_ufrag_;
  absl::flat_hash_map<std::string, JoinTag*> by_id_;
  std::map<uint64_t, std::shared_ptr<JoinTag>> by_number_;
  uint64_t next_number_ = 1;
  // By JoinList, each in the order of `listed_nanoseconds`.
  std::array<List, static_cast<size_t>(JoinList::kNone)> lists_;
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_JOIN_INDEX_H_
