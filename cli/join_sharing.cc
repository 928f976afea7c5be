#include "cli/join_sharing.h"

#include <cstddef>
#include <utility>

#include "nlohmann/json.hpp"

namespace udpgate {
namespace cli {
namespace {

using nethernet::Join;
using nlohmann::json;

// A text of a join and its name in an entry, with its allowed length.
struct Text {
  const char* name;
  std::string Join::*value;
  size_t bytes_min;
  size_t bytes_max;
};
// The lengths of the user fragment and the password: RFC 8839 section 5.4.
constexpr Text kTexts[] = {
    {"n", &Join::network_id, 1, 256},
    {"u", &Join::ufrag, 4, 256},
    {"p", &Join::password, 22, 256},
    {"l", &Join::backend_label, 0, 1024},
};
struct Address {
  const char* name;
  SocketAddress Join::*value;
};
constexpr Address kAddresses[] = {
    {"c", &Join::player},
    {"b", &Join::backend},
    {"m", &Join::media},
};
constexpr char kId[] = "id";
constexpr size_t kIdBytesMax = 256;
constexpr char kEnded[] = "x";

absl::Status Invalid(const char* name) {
  return absl::InvalidArgumentError(
      std::string("a shared join with an invalid \"") + name + "\"");
}

// Null if there is none, or if it is no text of such a length.
const std::string* FindText(const json& object, const char* name,
                            size_t bytes_min, size_t bytes_max) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return nullptr;
  const auto& text = found->get_ref<const std::string&>();
  return text.size() < bytes_min || text.size() > bytes_max ? nullptr : &text;
}

// An address that can be sent to, or an IP address alone with port 0.
bool ReadAddress(const std::string& text, SocketAddress* address) {
  absl::StatusOr<SocketAddress> parsed = SocketAddress::Parse(text);
  if (!parsed.ok() || !parsed->is_unicast()) return false;
  *address = *parsed;
  return true;
}

}  // namespace

std::string EncodeSharedJoin(const SharedJoin& shared) {
  json object = {{kId, shared.join.id}};
  if (shared.has_ended) {
    object[kEnded] = true;
  } else {
    for (const Text& text : kTexts) {
      object[text.name] = shared.join.*text.value;
    }
    for (const Address& address : kAddresses) {
      object[address.name] = (shared.join.*address.value).ToString();
    }
  }
  return object.dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<SharedJoin> DecodeSharedJoin(absl::string_view text) {
  const json object = json::parse(text.begin(), text.end(), nullptr,
                                  /*allow_exceptions=*/false);
  if (!object.is_object()) {
    return absl::InvalidArgumentError("a shared join is not a JSON object");
  }
  SharedJoin shared;
  const std::string* const id = FindText(object, kId, 1, kIdBytesMax);
  if (id == nullptr) return Invalid(kId);
  shared.join.id = *id;
  const auto ended = object.find(kEnded);
  shared.has_ended = ended != object.end() && *ended == true;
  if (shared.has_ended) return shared;
  for (const Text& member : kTexts) {
    const std::string* const value =
        FindText(object, member.name, member.bytes_min, member.bytes_max);
    if (value == nullptr) return Invalid(member.name);
    shared.join.*member.value = *value;
  }
  for (const Address& member : kAddresses) {
    const std::string* const value = FindText(object, member.name, 1, 64);
    if (value == nullptr ||
        !ReadAddress(*value, &(shared.join.*member.value))) {
      return Invalid(member.name);
    }
  }
  // Datagrams go there; the backend and the player may have no port.
  if (shared.join.media.port() == 0) return Invalid("m");
  return shared;
}

absl::Status JoinSharing::Start(EndSessions end_sessions) {
  end_sessions_ = std::move(end_sessions);
  return stream_->Start([this](absl::string_view entry, absl::Duration age) {
    Take(entry, age);
  });
}

void JoinSharing::OnAdded(const nethernet::Join& join) {
  stream_->Append(EncodeSharedJoin({/*has_ended=*/false, join}));
}

void JoinSharing::OnDisconnected(const nethernet::Join& join) {
  SharedJoin ended;
  ended.has_ended = true;
  ended.join.id = join.id;
  stream_->Append(EncodeSharedJoin(ended));
}

void JoinSharing::Take(absl::string_view entry, absl::Duration age) {
  absl::StatusOr<SharedJoin> shared = DecodeSharedJoin(entry);
  if (!shared.ok()) {
    invalid_joins_.fetch_add(1);
    return;
  }
  if (!shared->has_ended) {
    joins_->AddShared(std::move(shared->join), age);
    return;
  }
  std::vector<SocketAddress> clients = joins_->EndShared(shared->join.id);
  if (!clients.empty()) end_sessions_(std::move(clients));
}

}  // namespace cli
}  // namespace udpgate
