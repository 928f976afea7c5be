#include "udpgate/http/internal/exchange.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/socket_base.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/write.hpp>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace udpgate {
namespace http {
namespace internal {
namespace {

namespace asio = ::boost::asio;
namespace beast = ::boost::beast;
using asio::ip::tcp;

constexpr size_t kMethodBytesMax = 32;
constexpr size_t kTargetBytesMax = 8192;
constexpr size_t kNameBytesMax = 256;
constexpr size_t kValueBytesMax = 16384;
constexpr size_t kHeaderCountMax = 100;
constexpr size_t kResponseBytesMax = 64 << 20;
constexpr absl::Duration kTimeoutMin = absl::Milliseconds(1);
constexpr absl::Duration kTimeoutMax = absl::Hours(1);
// Responses with a status of 1xx before the final one (RFC 9110 section 15.2).
constexpr int kInterimResponsesMax = 10;
// How much is read at once.
constexpr size_t kReadBytesMax = 65536;

// Of the connection to the server, not of the response (RFC 9110 section
// 7.6.1), and what the client itself writes or reads.
bool IsOfConnection(absl::string_view name) {
  for (const absl::string_view other :
       {"Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "TE",
        "Trailer", "Transfer-Encoding", "Upgrade"}) {
    if (absl::EqualsIgnoreCase(name, other)) return true;
  }
  return false;
}

// RFC 9110 section 5.6.2.
bool IsToken(absl::string_view text, size_t bytes_max) {
  return !text.empty() && text.size() <= bytes_max &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  absl::StrContains("!#$%&'*+-.^_`|~", c);
         });
}

bool IsTarget(absl::string_view text) {
  return absl::StartsWith(text, "/") && text.size() <= kTargetBytesMax &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isgraph(static_cast<unsigned char>(c));
         });
}

// RFC 9110 section 5.5.
bool IsValue(absl::string_view text) {
  return text.size() <= kValueBytesMax &&
         std::none_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_iscntrl(static_cast<unsigned char>(c)) &&
                  c != '\t';
         });
}

beast::string_view Boost(absl::string_view text) {
  return beast::string_view(text.data(), text.size());
}

std::string String(beast::string_view text) {
  return std::string(text.data(), text.size());
}

tcp::endpoint Endpoint(const SocketAddress& address) {
  sockaddr_storage storage;
  const socklen_t size = address.ToSockaddr(address.family(), &storage);
  tcp::endpoint endpoint(address.is_ipv4() ? tcp::v4() : tcp::v6(),
                         address.port());
  std::memcpy(endpoint.data(), &storage, size);
  endpoint.resize(size);
  return endpoint;
}

}  // namespace

absl::Status Exchange::Check(const ClientRequest& request) {
  const auto invalid = [](absl::string_view text) {
    return absl::InvalidArgumentError(text);
  };
  if (!request.server.is_unicast() || request.server.port() == 0) {
    return invalid("server: must be the address of a host with a port");
  }
  if (!IsToken(request.method, kMethodBytesMax)) {
    return invalid("method: must be a token");
  }
  if (!IsTarget(request.target)) {
    return invalid("target: must be a path without white space");
  }
  if (request.headers.size() > kHeaderCountMax) {
    return invalid("headers: too many");
  }
  for (const Header& header : request.headers) {
    if (!IsToken(header.name, kNameBytesMax)) {
      return invalid("headers: a name must be a token");
    }
    if (IsOfConnection(header.name)) {
      return invalid(
          absl::StrCat("headers: ", header.name, " is set by the client"));
    }
    if (!IsValue(header.value)) {
      return invalid(absl::StrCat("headers: the value of ", header.name,
                                  " must be short and without control "
                                  "characters"));
    }
  }
  if (request.response_bytes_max > kResponseBytesMax) {
    return invalid("response_bytes_max: must be at most 64 MiB");
  }
  if (request.timeout < kTimeoutMin || request.timeout > kTimeoutMax) {
    return invalid("timeout: must be from 1ms to 1h");
  }
  if (request.connect_timeout < kTimeoutMin) {
    return invalid("connect_timeout: must be 1ms or more");
  }
  return absl::OkStatus();
}

Exchange::Exchange(asio::io_context* context, const ClientOptions& options,
                   ClientRequest request, Done done, Closed closed)
    : context_(*context),
      server_(request.server),
      preamble_(std::move(request.preamble)),
      header_bytes_max_(options.header_bytes_max),
      body_bytes_max_(request.response_bytes_max),
      timeout_(request.timeout),
      connect_timeout_(request.connect_timeout),
      close_timeout_(options.close_timeout),
      done_(std::move(done)),
      closed_(std::move(closed)),
      socket_(*context),
      timer_(*context),
      connect_timer_(*context),
      buffer_(options.header_bytes_max + kReadBytesMax) {
  timer_.expires_after(absl::ToChronoNanoseconds(timeout_));
  BuildMessage(std::move(request));
}

void Exchange::BuildMessage(ClientRequest request) {
  message_.version(11);
  message_.method_string(Boost(request.method));
  message_.target(Boost(request.target));
  if (FindHeader(request.headers, "Host") == nullptr) {
    message_.set(beast::http::field::host, server_.ToString());
  }
  for (const Header& header : request.headers) {
    message_.insert(Boost(header.name), Boost(header.value));
  }
  message_.set(beast::http::field::connection, "close");
  if (!request.body.empty() ||
      (request.method != "GET" && request.method != "HEAD")) {
    message_.content_length(request.body.size());
  }
  message_.body() = std::move(request.body);
}

void Exchange::Begin() {
  timer_.async_wait([self = shared_from_this()](const Error& error) {
    if (!error) self->HandleDeadline();
  });
}

void Exchange::Connect() {
  if (is_done_) return;
  const tcp::endpoint endpoint = Endpoint(server_);
  Error error;
  socket_.open(endpoint.protocol(), error);
  if (error) {
    Fail(Outcome::kUnreachable, absl::StatusCode::kUnavailable,
         absl::StrCat("cannot open a socket: ", error.message()));
    return;
  }
  if (connect_timeout_ < timeout_) WatchConnect();
  // A refusal shows below, in time instead of data.
  socket_.set_option(tcp::no_delay(true), error);
  socket_.async_connect(endpoint,
                        [self = shared_from_this()](const Error& result) {
                          self->HandleConnect(result);
                        });
}

void Exchange::WatchConnect() {
  connect_timer_.expires_after(absl::ToChronoNanoseconds(connect_timeout_));
  connect_timer_.async_wait([self = shared_from_this()](const Error& error) {
    if (error || self->is_done_ || self->is_connected_) return;
    self->Fail(Outcome::kUnreachable, absl::StatusCode::kUnavailable,
               absl::StrCat("no connection in ",
                            absl::FormatDuration(self->connect_timeout_)));
  });
}

void Exchange::HandleConnect(const Error& error) {
  if (is_done_) return;
  connect_timer_.cancel();
  if (error) {
    Fail(Outcome::kUnreachable, absl::StatusCode::kUnavailable,
         absl::StrCat("cannot connect: ", error.message()));
    return;
  }
  is_connected_ = true;
  Read();
  if (preamble_.empty()) {
    WriteMessage();
    return;
  }
  asio::async_write(
      socket_, asio::buffer(preamble_),
      [self = shared_from_this()](const Error& write_error, size_t) {
        if (!write_error && !self->is_done_) self->WriteMessage();
      });
}

void Exchange::WriteMessage() {
  // If it fails, the reader learns what has become of the connection: perhaps
  // a response.
  beast::http::async_write(
      socket_, message_,
      [self = shared_from_this()](const Error&, size_t) { (void)self; });
}

void Exchange::Read() {
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(header_bytes_max_));
  parser_->body_limit(body_bytes_max_);
  if (message_.method() == beast::http::verb::head) parser_->skip(true);
  beast::http::async_read(
      socket_, buffer_, *parser_,
      [self = shared_from_this()](const Error& error, size_t) {
        self->HandleRead(error);
      });
}

void Exchange::HandleRead(const Error& error) {
  if (is_done_) return;
  if (error) {
    HandleReadError(error);
    return;
  }
  const unsigned status = parser_->get().result_int();
  if (status >= 200) {
    HandleResponse();
    return;
  }
  if (status == 101 || ++interim_responses_ > kInterimResponsesMax) {
    Fail(Outcome::kMalformed, absl::StatusCode::kDataLoss,
         status == 101 ? "the server changes the protocol unasked"
                       : "too many interim responses");
    return;
  }
  Read();
}

void Exchange::HandleReadError(const Error& error) {
  if (error == beast::http::error::header_limit ||
      error == beast::http::error::buffer_overflow) {
    Fail(Outcome::kTooLarge, absl::StatusCode::kResourceExhausted,
         absl::StrCat("the head of the response exceeds ", header_bytes_max_,
                      " bytes"));
  } else if (error == beast::http::error::body_limit) {
    Fail(Outcome::kTooLarge, absl::StatusCode::kResourceExhausted,
         absl::StrCat("the body of the response exceeds ", body_bytes_max_,
                      " bytes"));
  } else if (error == beast::http::error::partial_message ||
             (error.category() == boost::system::system_category() &&
              parser_->got_some())) {
    Fail(Outcome::kMalformed, absl::StatusCode::kDataLoss,
         "the response ends early");
  } else if (error == beast::http::error::end_of_stream ||
             error.category() == boost::system::system_category()) {
    Fail(Outcome::kUnreachable, absl::StatusCode::kUnavailable,
         "the server closed the connection without a response");
  } else {
    Fail(Outcome::kMalformed, absl::StatusCode::kDataLoss,
         absl::StrCat("malformed response: ", error.message()));
  }
}

void Exchange::HandleResponse() {
  const bool ended_by_server = parser_->need_eof();
  Parser::value_type message = parser_->release();
  Response response;
  response.status = static_cast<int>(message.result_int());
  for (const auto& field : message) {
    Header header{String(field.name_string()), String(field.value())};
    if (IsOfConnection(header.name)) continue;
    if (absl::EqualsIgnoreCase(header.name, "Content-Type") &&
        response.content_type.empty()) {
      response.content_type = std::move(header.value);
      continue;
    }
    response.headers.push_back(std::move(header));
  }
  response.body = std::move(message.body());
  const bool has_more = buffer_.size() > 0;
  is_done_ = true;
  timer_.cancel();
  const bool may_wait = done_(Outcome::kResponse, std::move(response));
  if (ended_by_server) {
    Close(/*resets=*/false);
  } else if (may_wait && !has_more && !is_closed_) {
    WaitForClose();
  } else {
    Close(/*resets=*/true);
  }
}

void Exchange::WaitForClose() {
  timer_.expires_after(absl::ToChronoNanoseconds(close_timeout_));
  timer_.async_wait([self = shared_from_this()](const Error& error) {
    if (!error) self->Close(/*resets=*/true);
  });
  socket_.async_read_some(buffer_.prepare(1), [self = shared_from_this()](
                                                  const Error& error, size_t) {
    self->Close(/*resets=*/error != asio::error::eof);
  });
}

void Exchange::HandleDeadline() {
  if (is_done_) return;
  Fail(Outcome::kTimedOut, absl::StatusCode::kDeadlineExceeded,
       absl::StrCat(
           is_connected_ ? "no complete response in " : "no connection in ",
           absl::FormatDuration(timeout_)));
}

void Exchange::Cancel() {
  if (!is_done_) {
    Fail(Outcome::kCancelled, absl::StatusCode::kCancelled,
         "the HTTP client has stopped");
  }
  Close(/*resets=*/true);
}

void Exchange::Fail(Outcome outcome, absl::StatusCode code,
                    absl::string_view problem) {
  is_done_ = true;
  timer_.cancel();
  done_(outcome,
        absl::Status(code, absl::StrCat(server_.ToString(), ": ", problem)));
  Close(/*resets=*/true);
}

void Exchange::Close(bool resets) {
  if (is_closed_) return;
  is_closed_ = true;
  timer_.cancel();
  connect_timer_.cancel();
  const bool was_open = socket_.is_open();
  Error error;
  // No TIME_WAIT: nothing is under way that the server still has to get.
  if (resets && was_open) {
    socket_.set_option(asio::socket_base::linger(true, 0), error);
  }
  socket_.close(error);
  closed_(resets && was_open);
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
