// An HTTP/1.1 client for requests to backends: asynchronous, with one deadline
// for a whole request and a limit on everything that it reads (RFC 9110,
// RFC 9112).
//
//   auto client = udpgate::http::Client::Create(engine.get(), {});
//   if (!client.ok()) return client.status();
//   udpgate::http::ClientRequest request;
//   request.server = backend;
//   request.target = "/v1/join";
//   (*client)->Send(std::move(request),
//                   [](absl::StatusOr<udpgate::http::Response> response)
//                   {...});
//   ...
//   (*client)->Stop();  // before the Engine stops
//
// Plain HTTP, one connection a request. Redirects are not followed: a response
// with any status is the result.
#ifndef UDPGATE_HTTP_CLIENT_H_
#define UDPGATE_HTTP_CLIENT_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "udpgate/base/export.h"
#include "udpgate/http/client_options.h"
#include "udpgate/http/engine.h"
#include "udpgate/http/message.h"

namespace udpgate {
namespace http {

// Threads: connections belong to the threads of the Engine. `Send` and `stats`
// from any thread; `Stop` from one that is not the Engine's.
//
// Ownership: the Engine must outlive it.
class UDPGATE_EXPORT Client {
 public:
  // Called once, with the response or
  //   InvalidArgument    the request cannot be sent; nothing was
  //   ResourceExhausted  no room in the queue, or the response is too large
  //   DeadlineExceeded   `timeout` is over
  //   Unavailable        no connection, or it ended before the response began
  //   DataLoss           the response is malformed, or ends early
  //   Cancelled          `Stop`
  // The text is one line and has nothing of the request but the server's
  // address, and nothing of the response.
  using Done = absl::AnyInvocable<void(absl::StatusOr<Response>)>;

  // InvalidArgument from `ClientOptions::Validate`.
  static absl::StatusOr<std::unique_ptr<Client>> Create(Engine* engine,
                                                        ClientOptions options);

  // Calls `Stop`.
  ~Client();  // NOLINT(bugprone-exception-escape)
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Calls `done` on a thread of the Engine, which it must not block; before it
  // returns, if the request is invalid or refused or the client has stopped.
  void Send(ClientRequest request, Done done);

  // Cancels all requests; returns after the last `done` has returned. May be
  // called twice.
  void Stop();

  ClientStats stats() const;

 private:
  class Core;
  explicit Client(std::shared_ptr<Core> core);

  const std::shared_ptr<Core> core_;
};

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_CLIENT_H_
