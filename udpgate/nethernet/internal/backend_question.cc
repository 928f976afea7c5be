#include "udpgate/nethernet/internal/backend_question.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "udpgate/http/client.h"
#include "udpgate/http/proxy_header.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

// An IP address as a header names it: without an interface, which means nothing
// to another host.
std::string WithoutInterface(const SocketAddress& address) {
  const std::string ip = address.IpToString();
  return ip.substr(0, ip.find('%'));
}

// One question on its way from address to address.
class Asking : public std::enable_shared_from_this<Asking> {
 public:
  Asking(std::shared_ptr<ServiceContext> context, BackendQuestion question,
         absl::AnyInvocable<void(BackendAnswer)> done)
      : context_(std::move(context)),
        question_(std::move(question)),
        done_(std::move(done)) {}

  void Send(size_t index) {
    http::ClientRequest request = MakeRequest(question_.addresses[index]);
    request.timeout = context_->Left(question_.deadline_nanoseconds);
    if (request.timeout <= absl::ZeroDuration()) {
      return Finish(index, absl::DeadlineExceededError("no time is left"));
    }
    auto self = shared_from_this();
    // Without a client nobody waits for an answer any more.
    (void)context_->gate.Run([&] {
      context_->client->Send(
          std::move(request),
          [self, index](absl::StatusOr<http::Response> response) {
            self->OnResponse(index, std::move(response));
          });
    });
  }

 private:
  http::ClientRequest MakeRequest(const SocketAddress& server) const {
    http::ClientRequest request;
    request.server = server;
    request.method = question_.method;
    request.target = question_.target;
    request.body = question_.body;
    request.response_bytes_max = question_.response_bytes_max;
    request.connect_timeout = context_->options()->connect_timeout;
    if (!question_.body.empty()) {
      request.headers.push_back({"Content-Type", "application/sdp"});
    }
    const Asker& asker = question_.asker;
    switch (question_.forward_client) {
      case ForwardClient::kOff:
        break;
      case ForwardClient::kXForwardedFor:
        request.headers.push_back(
            {"X-Forwarded-For", WithoutInterface(asker.client)});
        break;
      case ForwardClient::kProxyV1:
        request.preamble =
            http::ProxyHeader::WriteV1(asker.client, asker.local);
        break;
      case ForwardClient::kProxyV2:
        request.preamble =
            http::ProxyHeader::WriteV2(asker.client, asker.local);
        break;
    }
    return request;
  }

  void OnResponse(size_t index, absl::StatusOr<http::Response> response) {
    // Any other error may mean that this backend is at work on the question.
    if (absl::IsUnavailable(response.status()) &&
        index + 1 < question_.addresses.size()) {
      return Send(index + 1);
    }
    Finish(index, std::move(response));
  }

  void Finish(size_t index, absl::StatusOr<http::Response> response) {
    done_({std::move(response), question_.addresses[index]});
  }

  const std::shared_ptr<ServiceContext> context_;
  const BackendQuestion question_;
  absl::AnyInvocable<void(BackendAnswer)> done_;
};

}  // namespace

std::vector<SocketAddress> SignalingAddresses(const ResolveResult& backend,
                                              uint16_t backend_port) {
  std::vector<SocketAddress> addresses;
  const auto add = [&](const SocketAddress& address) {
    const SocketAddress signaling =
        backend_port == 0 ? address : address.WithPort(backend_port);
    if (std::find(addresses.begin(), addresses.end(), signaling) ==
        addresses.end()) {
      addresses.push_back(signaling);
    }
  };
  add(backend.backend);
  for (const SocketAddress& address : backend.alternatives) add(address);
  return addresses;
}

void Ask(std::shared_ptr<ServiceContext> context, BackendQuestion question,
         absl::AnyInvocable<void(BackendAnswer)> done) {
  std::make_shared<Asking>(std::move(context), std::move(question),
                           std::move(done))
      ->Send(0);
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
