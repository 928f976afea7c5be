#include "testing/internal/ice/ice_player.h"

#include <openssl/ssl.h>

#include <cstddef>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace test {

IcePlayer::IcePlayer(IcePlayerOptions options) : options_(std::move(options)) {}

absl::Status IcePlayer::Offer(const SocketAddress& signaling) {
  IceAgentOptions agent_options;
  agent_options.addresses = options_.addresses;
  absl::StatusOr<std::unique_ptr<IceAgent>> agent =
      IceAgent::Create(agent_options);
  if (!agent.ok()) return agent.status();
  agent_ = *std::move(agent);
  const std::string offer = ToSdp(agent_->description(), /*is_offer=*/true);
  const std::string request = absl::StrCat(
      "POST /v1/join/", options_.network_id,
      " HTTP/1.1\r\nHost: ", signaling.ToString(),
      "\r\nContent-Type: application/sdp\r\n", "Content-Length: ", offer.size(),
      "\r\nConnection: close\r\n\r\n", offer);
  absl::StatusOr<HttpReply> reply =
      options_.certificate_file.empty()
          ? HttpExchange(signaling, request)
          : TlsExchange(signaling, request, options_.certificate_file);
  if (!reply.ok()) return reply.status();
  reply_ = *std::move(reply);
  if (reply_.status != 200) {
    return absl::UnavailableError(
        absl::StrCat(reply_.status, " ", reply_.body));
  }
  absl::StatusOr<IceDescription> answer = FromSdp(reply_.body);
  if (!answer.ok()) return answer.status();
  answer_ = *std::move(answer);
  return absl::OkStatus();
}

absl::Status IcePlayer::StartMedia() { return agent_->SetRemote(answer_); }

absl::Status IcePlayer::Join(const SocketAddress& signaling) {
  if (absl::Status status = Offer(signaling); !status.ok()) return status;
  if (absl::Status status = StartMedia(); !status.ok()) return status;
  if (!agent_->AwaitConnected()) {
    return absl::DeadlineExceededError(
        absl::StrCat("no path by ICE; state ", agent_->state()));
  }
  return absl::OkStatus();
}

absl::Status IcePlayer::Ask(absl::string_view backend, absl::Duration timeout) {
  if (!agent_->AwaitConnected(timeout)) {
    return absl::DeadlineExceededError(
        absl::StrCat("no path by ICE; state ", agent_->state()));
  }
  return agent_->Ask(absl::StrCat(backend, ":"), timeout);
}

absl::StatusOr<HttpReply> TlsExchange(const SocketAddress& address,
                                      absl::string_view text,
                                      const std::string& certificate_file) {
  absl::StatusOr<internal::UniqueFd> fd = TcpConnect(address);
  if (!fd.ok()) return fd.status();
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(
      SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
  if (SSL_CTX_load_verify_file(context.get(), certificate_file.c_str()) != 1) {
    return absl::InvalidArgumentError(certificate_file);
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  const std::unique_ptr<SSL, decltype(&SSL_free)> connection(
      SSL_new(context.get()), &SSL_free);
  SSL_set_fd(connection.get(), fd->get());
  if (SSL_connect(connection.get()) != 1) {
    return absl::UnauthenticatedError(
        absl::StrCat("TLS: ", SSL_get_verify_result(connection.get())));
  }
  if (SSL_write(connection.get(), text.data(), static_cast<int>(text.size())) <=
      0) {
    return absl::UnavailableError("TLS: nothing can be sent");
  }
  std::string received;
  char buffer[16384];
  for (int count = 1; count > 0;) {
    count = SSL_read(connection.get(), buffer, sizeof(buffer));
    if (count > 0) received.append(buffer, static_cast<size_t>(count));
  }
  HttpReply reply;
  const size_t end = received.find("\r\n\r\n");
  if (end == std::string::npos ||
      !absl::SimpleAtoi(received.substr(9, 3), &reply.status)) {
    return absl::UnavailableError(absl::StrCat("no response: ", received));
  }
  reply.head = received.substr(0, end + 4);
  reply.body = received.substr(end + 4);
  return reply;
}

}  // namespace test
}  // namespace udpgate
