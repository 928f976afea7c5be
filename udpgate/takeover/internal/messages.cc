#include "udpgate/takeover/internal/messages.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/takeover/internal/message_fields.h"

namespace udpgate {
namespace takeover {
namespace internal {
namespace {

using nlohmann::json;

// No message is nested more deeply. The parser is recursive.
constexpr int kDepthMax = 4;

// Refuses a message that is nested too deeply, before it is built.
class DepthGuard : public nlohmann::json_sax<json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return ++depth_ <= kDepthMax; }
  bool key(string_t&) override { return true; }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override { return ++depth_ <= kDepthMax; }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  int depth_ = 0;
};
}  // namespace

json NewMessage(absl::string_view type) {
  json message = json::object();
  message["type"] = std::string(type);
  return message;
}

std::vector<uint8_t> Encode(const json& message) {
  return json::to_msgpack(message);
}

absl::StatusOr<json> Decode(absl::Span<const uint8_t> bytes) {
  DepthGuard guard;
  if (!json::sax_parse(bytes.begin(), bytes.end(), &guard,
                       nlohmann::detail::input_format_t::msgpack)) {
    return InvalidMessage("not MessagePack, or nested too deeply");
  }
  json message = json::from_msgpack(bytes.begin(), bytes.end(), /*strict=*/true,
                                    /*allow_exceptions=*/false);
  const auto type = message.is_object() ? message.find("type") : message.end();
  if (type == message.end() || !type->is_string()) {
    return InvalidMessage("no type");
  }
  if (*type != "error") return message;
  const auto text = message.find("text");
  return absl::AbortedError(
      text != message.end() && text->is_string()
          ? absl::StrCat("the other process reports: ",
                         text->get_ref<const std::string&>())
          : "the other process reports an error");
}

absl::Status SendMessage(const json& message, Channel* channel,
                         absl::Span<const int> descriptors) {
  return channel->Send(Encode(message), descriptors);
}

absl::Status SendRows(json message, absl::Span<const uint8_t> rows,
                      Channel* channel) {
  message["row_bytes"] = rows.size();
  absl::Status status = SendMessage(message, channel);
  return status.ok() ? channel->Send(rows) : status;
}

void SendError(const absl::Status& status, Channel* channel) {
  // The other process may be slow or gone; do not wait for it.
  channel->BeginStage(absl::Milliseconds(10));
  json message = NewMessage("error");
  message["text"] = std::string(status.message());
  (void)SendMessage(message, channel);
}

absl::StatusOr<Incoming> ReceiveMessage(Channel* channel) {
  absl::StatusOr<Channel::Message> message = channel->Receive();
  if (!message.ok()) return message.status();
  absl::StatusOr<json> fields = Decode(message->bytes);
  if (!fields.ok()) return fields.status();
  Incoming incoming;
  incoming.type = (*fields)["type"].get<std::string>();
  incoming.fields = *std::move(fields);
  incoming.descriptors = std::move(message->descriptors);
  if (!incoming.fields.contains("row_bytes")) return incoming;
  message = channel->Receive();
  if (!message.ok()) return message.status();
  uint64_t row_bytes = 0;
  if (!ReadInteger(incoming.fields["row_bytes"], &row_bytes) ||
      row_bytes != message->bytes.size()) {
    return InvalidMessage("its rows do not have the length that it says");
  }
  incoming.rows = std::move(message->bytes);
  return incoming;
}

absl::StatusOr<Incoming> ReceiveMessage(absl::string_view type,
                                        Channel* channel) {
  absl::StatusOr<Incoming> message = ReceiveMessage(channel);
  if (message.ok() && message->type != type) {
    return InvalidMessage(absl::StrCat("expected \"", type, "\", received \"",
                                       message->type, "\""));
  }
  return message;
}

absl::Status CheckVersion(const json& message) {
  const absl::StatusOr<uint64_t> version = ReadNumber(message, "version");
  if (!version.ok()) return version.status();
  if (*version == kVersion) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "the other process uses version ", *version,
      " of the takeover messages, this process version ", kVersion));
}

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
