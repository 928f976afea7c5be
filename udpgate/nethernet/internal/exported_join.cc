#include "udpgate/nethernet/internal/exported_join.h"

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

using nlohmann::json;

constexpr char kVersion[] = "udpgate joins 1";

// Far beyond what any field has.
constexpr size_t kTextBytesMax = 4096;

std::string TextOf(const SocketAddress& address) {
  return address.is_valid() ? address.ToString() : std::string();
}

int64_t Milliseconds(absl::Duration duration) {
  return absl::ToInt64Milliseconds(duration);
}

// The fields in their order: an array is shorter than an object.
json WriteClient(const ExportedClient& copy) {
  const JoinClients::Client& client = copy.client;
  json fields = json::array({TextOf(client.address), TextOf(client.relay),
                             client.is_path_of_its_own,
                             Milliseconds(copy.used_age), nullptr, nullptr});
  if (client.priority.has_value()) fields[4] = *client.priority;
  if (copy.moved_age.has_value()) fields[5] = Milliseconds(*copy.moved_age);
  return fields;
}

json WriteJoin(const ExportedJoin& exported) {
  const Join& join = exported.join;
  json clients = json::array();
  for (const ExportedClient& client : exported.clients) {
    clients.push_back(WriteClient(client));
  }
  return json::array(
      {join.id, join.network_id, join.ufrag, join.password, TextOf(join.player),
       TextOf(join.backend), join.backend_label, TextOf(join.media),
       exported.has_begun, exported.is_shared, Milliseconds(exported.age),
       Milliseconds(exported.listed_age), std::move(clients)});
}

// Refuses what is nested more deeply than joins are, since the parser calls
// itself for each level.
class ShapeGuard : public nlohmann::detail::json_sax_acceptor<json> {
 public:
  bool start_array(size_t /*size*/) { return ++depth_ <= kDepthMax; }
  bool end_array() {
    --depth_;
    return true;
  }
  bool start_object(size_t /*size*/) { return false; }

 private:
  // All, the joins, a join, its clients, a client.
  static constexpr int kDepthMax = 5;
  int depth_ = 0;
};

// Takes the fields of an array in their order; what is malformed makes it
// invalid.
class FieldReader {
 public:
  FieldReader(const json& fields, size_t count)
      : fields_(fields),
        is_valid_(fields.is_array() && fields.size() == count) {}

  bool is_valid() const { return is_valid_; }

  void Take(std::string* text) {
    const json* const field = Next();
    if (!Check(field != nullptr && field->is_string())) return;
    const std::string& value = field->get_ref<const std::string&>();
    if (Check(value.size() <= kTextBytesMax)) *text = value;
  }
  // Empty: invalid, if that is allowed.
  void Take(SocketAddress* address, bool may_be_empty) {
    std::string text;
    Take(&text);
    if (!is_valid_ || (text.empty() && may_be_empty)) return;
    const absl::StatusOr<SocketAddress> parsed = SocketAddress::Parse(text);
    if (Check(parsed.ok())) *address = *parsed;
  }
  void Take(bool* flag) {
    const json* const field = Next();
    if (Check(field != nullptr && field->is_boolean())) {
      *flag = field->get<bool>();
    }
  }
  void Take(absl::Duration* age) {
    absl::optional<absl::Duration> taken;
    Take(&taken);
    if (Check(taken.has_value())) *age = *taken;
  }
  void Take(absl::optional<absl::Duration>* age) {
    const json* const field = Next();
    if (field == nullptr || field->is_null()) return;
    if (!Check(field->is_number_integer())) return;
    const int64_t milliseconds = field->get<int64_t>();
    // A year.
    if (Check(milliseconds >= 0 &&
              milliseconds <= int64_t{365} * 24 * 3600 * 1000)) {
      *age = absl::Milliseconds(milliseconds);
    }
  }
  void Take(absl::optional<uint32_t>* number) {
    const json* const field = Next();
    if (field == nullptr || field->is_null()) return;
    if (!Check(field->is_number_unsigned())) return;
    const uint64_t value = field->get<uint64_t>();
    if (Check(value <= UINT32_MAX)) *number = static_cast<uint32_t>(value);
  }
  const json* Next() {
    return is_valid_ && next_ < fields_.size() ? &fields_[next_++] : nullptr;
  }

 private:
  bool Check(bool holds) {
    is_valid_ = is_valid_ && holds;
    return is_valid_;
  }

  const json& fields_;
  size_t next_ = 0;
  bool is_valid_;
};

bool ReadClient(const json& value, ExportedClient* copy) {
  FieldReader reader(value, 6);
  reader.Take(&copy->client.address, /*may_be_empty=*/false);
  reader.Take(&copy->client.relay, /*may_be_empty=*/true);
  reader.Take(&copy->client.is_path_of_its_own);
  reader.Take(&copy->used_age);
  reader.Take(&copy->client.priority);
  reader.Take(&copy->moved_age);
  return reader.is_valid();
}

bool ReadJoin(const json& value, ExportedJoin* exported) {
  FieldReader reader(value, 13);
  Join& join = exported->join;
  reader.Take(&join.id);
  reader.Take(&join.network_id);
  reader.Take(&join.ufrag);
  reader.Take(&join.password);
  reader.Take(&join.player, /*may_be_empty=*/false);
  reader.Take(&join.backend, /*may_be_empty=*/false);
  reader.Take(&join.backend_label);
  reader.Take(&join.media, /*may_be_empty=*/false);
  reader.Take(&exported->has_begun);
  reader.Take(&exported->is_shared);
  reader.Take(&exported->age);
  reader.Take(&exported->listed_age);
  const json* const clients = reader.Next();
  if (!reader.is_valid() || clients == nullptr || !clients->is_array() ||
      join.id.empty() || join.ufrag.empty() || join.password.empty()) {
    return false;
  }
  for (const json& client : *clients) {
    exported->clients.emplace_back();
    if (!ReadClient(client, &exported->clients.back())) return false;
  }
  return true;
}

}  // namespace

std::string WriteJoins(const ExportedJoins& joins) {
  json array = json::array();
  for (const ExportedJoin& join : joins.joins) array.push_back(WriteJoin(join));
  const json all = json::array(
      {kVersion, joins.is_complete, std::move(array), joins.ended_ids});
  std::string text;
  json::to_msgpack(all, text);
  return text;
}

absl::StatusOr<ExportedJoins> ReadJoins(absl::string_view text) {
  const absl::Status malformed =
      absl::InvalidArgumentError("the joins of the old process are malformed");
  ShapeGuard guard;
  if (!json::sax_parse(text.begin(), text.end(), &guard,
                       nlohmann::detail::input_format_t::msgpack)) {
    return malformed;
  }
  const json all = json::from_msgpack(text.begin(), text.end(), /*strict=*/true,
                                      /*allow_exceptions=*/false);
  if (!all.is_array() || all.size() != 4 || all[0] != kVersion ||
      !all[1].is_boolean() || !all[2].is_array() || !all[3].is_array()) {
    return malformed;
  }
  ExportedJoins joins;
  joins.is_complete = all[1].get<bool>();
  for (const json& join : all[2]) {
    joins.joins.emplace_back();
    if (!ReadJoin(join, &joins.joins.back())) return malformed;
  }
  for (const json& id : all[3]) {
    if (!id.is_string()) return malformed;
    joins.ended_ids.push_back(id.get<std::string>());
  }
  return joins;
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
