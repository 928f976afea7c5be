// One request of a `Client`, over a connection of its own.
#ifndef UDPGATE_HTTP_INTERNAL_EXCHANGE_H_
#define UDPGATE_HTTP_INTERNAL_EXCHANGE_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstddef>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/http/client_options.h"
#include "udpgate/http/message.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {
namespace internal {

// Connects, writes the request while it reads the response, since a server may
// refuse a request before it has read all of it, and then waits for the server
// to close.
//
// Threads: the one of its io_context, except the constructor.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  enum class Outcome {
    kResponse,
    kUnreachable,
    kTimedOut,
    kMalformed,
    kTooLarge,
    kCancelled,
  };

  // The result, once. True: the connection may stay open until the server
  // closes it. False: it is closed at once.
  using Done = absl::AnyInvocable<bool(Outcome, absl::StatusOr<Response>)>;
  // After that, once: the connection is closed. True: by a reset.
  using Closed = absl::AnyInvocable<void(bool)>;

  // InvalidArgument says why `request` cannot be sent.
  static absl::Status Check(const ClientRequest& request);

  // `request` has passed `Check`; its time begins now.
  Exchange(boost::asio::io_context* context, const ClientOptions& options,
           ClientRequest request, Done done, Closed closed);

  boost::asio::io_context& context() { return context_; }

  // First: watches the deadline.
  void Begin();
  // Then, or not at all: sends the request.
  void Connect();
  // Ends it, whatever it is doing.
  void Cancel();

 private:
  using Error = boost::system::error_code;
  using Parser =
      boost::beast::http::response_parser<boost::beast::http::string_body>;

  void BuildMessage(ClientRequest request);
  void HandleConnect(const Error& error);
  void WriteMessage();
  void Read();
  void HandleRead(const Error& error);
  void HandleReadError(const Error& error);
  void HandleResponse();
  void HandleDeadline();
  void WatchConnect();
  void WaitForClose();
  void Fail(Outcome outcome, absl::StatusCode code, absl::string_view problem);
  void Close(bool resets);

  boost::asio::io_context& context_;
  const SocketAddress server_;
  const std::string preamble_;
  const size_t header_bytes_max_;
  const size_t body_bytes_max_;
  const absl::Duration timeout_;
  const absl::Duration connect_timeout_;
  const absl::Duration close_timeout_;
  Done done_;
  Closed closed_;
  boost::beast::http::request<boost::beast::http::string_body> message_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  boost::asio::steady_timer connect_timer_;
  boost::beast::flat_buffer buffer_;
  absl::optional<Parser> parser_;
  int interim_responses_ = 0;
  bool is_connected_ = false;
  bool is_done_ = false;
  bool is_closed_ = false;
};

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_EXCHANGE_H_
