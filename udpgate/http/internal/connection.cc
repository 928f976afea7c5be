#include "udpgate/http/internal/connection.h"

#include <sys/socket.h>

#include <array>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "udpgate/http/internal/forwarded_for.h"
#include "udpgate/http/internal/response_text.h"
#include "udpgate/http/proxy_header.h"

namespace udpgate {
namespace http {
namespace internal {
namespace {

namespace asio = ::boost::asio;
using ::boost::system::error_code;
using DescriptorBase = asio::posix::descriptor_base;
using ::udpgate::internal::UniqueFd;

// Then the other connections of the thread have their turn.
constexpr int kStepsMax = 32;
// What a client may still send after the last response, so that it can read it:
// closing a socket with unread bytes resets the connection (RFC 9112 9.6).
constexpr size_t kDrainedBytesMax = 64 << 20;
// What a connection keeps of a large response's memory.
constexpr size_t kOutputKeptBytesMax = 16384;

constexpr char kContinue[] = "HTTP/1.1 100 Continue\r\n\r\n";
// The first byte of a TLS handshake (RFC 8446 section 5.1).
constexpr char kTlsHandshake = 0x16;

// Of the thread, for one step at a time.
constexpr size_t kBufferBytes = 65536;
char* Buffer() {
  thread_local std::array<char, kBufferBytes> buffer;
  return buffer.data();
}

SocketAddress LocalAddress(int fd) {
  sockaddr_storage address;
  socklen_t size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return SocketAddress();
  }
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), size);
}

}  // namespace

// The way back from a handler to its connection, which may be gone by then.
class Connection::ResponseSlot {
 public:
  explicit ResponseSlot(Connection* connection)
      : state_(connection->state_),
        context_(connection->context_),
        connection_(connection->weak_from_this()),
        request_number_(connection->request_number_) {}
  // Without memory alone does asio::post throw.
  ~ResponseSlot() {  // NOLINT(bugprone-exception-escape)
    if (!is_used_) Give(JsonError(500, "the request was dropped"));
  }
  ResponseSlot(const ResponseSlot&) = delete;
  ResponseSlot& operator=(const ResponseSlot&) = delete;

  void Give(Response response) {
    if (std::exchange(is_used_, true)) return;
    // Released without the lock.
    std::shared_ptr<Connection> connection;
    bool is_in_handler = false;
    state_->IfRunning([&] {
      if (context_->get_executor().running_in_this_thread()) {
        connection = connection_.lock();
        is_in_handler = connection != nullptr && connection->is_in_handler_;
      }
      if (is_in_handler) return;
      // Never at once: whoever gives the response may hold a lock that the
      // handler of the next request takes.
      asio::post(*context_, [target = connection_, number = request_number_,
                             response = std::move(response)]() mutable {
        const std::shared_ptr<Connection> found = target.lock();
        if (found != nullptr) found->TakeResponse(number, std::move(response));
      });
    });
    if (is_in_handler) {
      connection->TakeResponse(request_number_, std::move(response));
    }
  }

 private:
  const std::shared_ptr<ServerState> state_;
  asio::io_context* const context_;
  const std::weak_ptr<Connection> connection_;
  const uint64_t request_number_;
  bool is_used_ = false;
};

Connection::Connection(std::shared_ptr<ServerState> state,
                       asio::io_context* context, UniqueFd fd,
                       const SocketAddress& peer,
                       std::shared_ptr<const AccessRules> rules)
    : presence_(state),
      state_(std::move(state)),
      context_(context),
      fd_(std::move(fd)),
      descriptor_(*context),
      rules_(std::move(rules)),
      tls_(state_->tls()),
      stream_(fd_.get()),
      peer_(peer),
      client_(peer),
      reader_({state_->options.header_bytes_max,
               state_->options.header_count_max,
               state_->options.body_bytes_max}) {
  entry_.phase = tls_ != nullptr || state_->options.accepts_proxy_header
                     ? Phase::kPreface
                     : Phase::kReading;
  ++state_->counters.open;
}

Connection::~Connection() {
  state_->table.Remove(&entry_);
  --state_->counters.open;
}

void Connection::Start() {
  asio::dispatch(*context_, [self = shared_from_this()] { self->Begin(); });
}

void Connection::Close() {
  asio::post(*context_, [self = shared_from_this()] { self->CloseNow(); });
}

void Connection::HandleOverdue(uint64_t moves) {
  asio::post(*context_, [self = shared_from_this(), moves] {
    if (self->is_closed_ || self->entry_.moves != moves) return;
    self->GoOnAfterDeadline();
  });
}

void Connection::Begin() {
  if (is_closed_) return;
  error_code error;
  descriptor_.assign(fd_.get(), error);
  if (!error) fd_.Release();
  if (error || state_->is_stopped()) return CloseNow();
  self_ = shared_from_this();
  local_ = LocalAddress(descriptor_.native_handle());
  Run();
}

void Connection::CloseNow() {
  if (std::exchange(is_closed_, true)) return;
  state_->table.Remove(&entry_);
  error_code error;
  descriptor_.close(error);
  fd_.Reset();
  self_.reset();
}

void Connection::Run() {
  for (int i = 0; i < kStepsMax; ++i) {
    switch (RunStep()) {
      case Step::kAgain:
        continue;
      case Step::kAwaitRead:
        return Await(DescriptorBase::wait_read);
      case Step::kAwaitWrite:
        return Await(DescriptorBase::wait_write);
      case Step::kAwaitResponse:
        return;
      case Step::kClosed:
        return CloseNow();
    }
  }
  asio::post(*context_, [self = shared_from_this(), number = ++wait_number_] {
    if (!self->is_closed_ && number == self->wait_number_) self->Run();
  });
}

Connection::Step Connection::RunStep() {
  switch (entry_.phase) {
    case Phase::kPreface:
      return stream_.is_tls() ? Handshake() : ReadPreface();
    case Phase::kIdle:
    case Phase::kReading:
      return ReadRequest();
    case Phase::kHandling:
      return Step::kAwaitResponse;
    case Phase::kWriting:
      return Write();
    case Phase::kClosing:
      return Drain();
  }
  return Step::kClosed;
}

void Connection::Await(DescriptorBase::wait_type type) {
  descriptor_.async_wait(type, [self = shared_from_this(),
                                number = ++wait_number_](const error_code&) {
    // An error shows in the next step.
    if (!self->is_closed_ && number == self->wait_number_) self->Run();
  });
}

void Connection::CancelAwait() {
  ++wait_number_;
  error_code error;
  descriptor_.cancel(error);
}

// --- before the first request

Connection::Step Connection::ReadPreface() {
  char* const bytes = Buffer();
  size_t size = 0;
  switch (stream_.Peek(bytes, ProxyHeader::kVersion2BytesMax, &size)) {
    case Stream::Result::kDone:
      break;
    case Stream::Result::kWantsRead:
    case Stream::Result::kWantsWrite:
      return Step::kAwaitRead;
    case Stream::Result::kEnd:
    case Stream::Result::kError:
      if (!preface_.empty()) ++state_->counters.proxy_headers_refused;
      return Step::kClosed;
  }
  if (state_->options.accepts_proxy_header && !has_proxy_header_) {
    return ReadProxyHeader({bytes, size});
  }
  if (bytes[0] != kTlsHandshake || tls_ == nullptr) return BeginRequests();
  if (stream_.BeginTls(tls_->get())) return Step::kAgain;
  ++state_->counters.tls_handshakes_failed;
  return Step::kClosed;
}

Connection::Step Connection::ReadProxyHeader(absl::string_view peeked) {
  const size_t known_bytes = preface_.size();
  preface_.append(peeked.data(), peeked.size());
  const ProxyHeader header = ProxyHeader::Parse(preface_);
  size_t taken_bytes = 0;  // of what was peeked
  switch (header.state) {
    case ProxyHeader::State::kIncomplete:
      taken_bytes = peeked.size();
      break;
    case ProxyHeader::State::kNone:
      has_proxy_header_ = true;  // none will come
      preface_.resize(known_bytes);
      return known_bytes > 0 ? BeginRequests() : Step::kAgain;
    case ProxyHeader::State::kRefused:
      return RefuseProxyHeader(header.error);
    case ProxyHeader::State::kComplete:
      if (!rules_->trusted_proxies.Contains(peer_)) {
        return RefuseProxyHeader("PROXY header, but not from a trusted proxy");
      }
      taken_bytes = header.size - known_bytes;
      break;
  }
  size_t size = 0;
  if (stream_.ReadSocket(Buffer(), taken_bytes, &size) !=
          Stream::Result::kDone ||
      size != taken_bytes) {
    return Step::kClosed;
  }
  if (header.state == ProxyHeader::State::kIncomplete) return Step::kAwaitRead;
  has_proxy_header_ = true;
  preface_.clear();
  ++state_->counters.proxy_headers;
  if (!header.source.is_valid()) return Step::kAgain;
  client_ = header.source;
  local_ = header.destination;
  if (!rules_->Admits(client_)) {
    ++state_->counters.denied;
    return Step::kClosed;
  }
  if (!is_refused_ && !state_->table.SetClient(&entry_, client_)) {
    ++state_->counters.closed_at_limit;
    is_refused_ = true;
  }
  return Step::kAgain;
}

Connection::Step Connection::RefuseProxyHeader(absl::string_view error) {
  ++state_->counters.proxy_headers_refused;
  preface_.clear();
  int64_t suppressed = 0;
  if (state_->proxy_header_limiter.Admit(&suppressed)) {
    state_->Log(
        LogSeverity::kWarning,
        absl::StrCat("connection of ", peer_.ToString(), " refused: ", error,
                     "; ", suppressed, " more since the last line"));
  }
  return Refuse(400, error);
}

Connection::Step Connection::Handshake() {
  switch (stream_.Handshake()) {
    case Stream::Result::kDone:
      ++state_->counters.tls_handshakes;
      return BeginRequests();
    case Stream::Result::kWantsRead:
      return Step::kAwaitRead;
    case Stream::Result::kWantsWrite:
      return Step::kAwaitWrite;
    case Stream::Result::kEnd:
    case Stream::Result::kError:
      break;
  }
  ++state_->counters.tls_handshakes_failed;
  return Step::kClosed;
}

Connection::Step Connection::BeginRequests() {
  state_->table.Move(&entry_, Phase::kReading);
  if (preface_.empty()) return Step::kAgain;
  const std::string bytes = std::exchange(preface_, std::string());
  return GoOn(reader_.Append(bytes));
}

// --- requests

Connection::Step Connection::ReadRequest() {
  char* const bytes = Buffer();
  size_t size = 0;
  switch (stream_.Read(bytes, kBufferBytes, &size)) {
    case Stream::Result::kDone:
      break;
    case Stream::Result::kWantsRead:
      return Step::kAwaitRead;
    case Stream::Result::kWantsWrite:
      return Step::kAwaitWrite;
    case Stream::Result::kEnd:
    case Stream::Result::kError:
      return Step::kClosed;
  }
  if (is_refused_) return Refuse(503, "too many connections");
  if (entry_.phase == Phase::kIdle) {
    state_->table.Move(&entry_, Phase::kReading);
  }
  return GoOn(reader_.Append({bytes, size}));
}

Connection::Step Connection::GoOn(RequestReader::State state) {
  switch (state) {
    case RequestReader::State::kIncomplete:
      break;
    case RequestReader::State::kComplete:
      return CallHandler();
    case RequestReader::State::kRefused:
      ++state_->counters.refused_requests;
      return Refuse(reader_.error_status(), reader_.error());
  }
  if (has_sent_continue_ || !reader_.expects_continue()) return Step::kAgain;
  has_sent_continue_ = true;
  // The client waits, so there is room for a line.
  size_t size = 0;
  const absl::string_view text = kContinue;
  return stream_.Write(text, &size) == Stream::Result::kDone &&
                 size == text.size()
             ? Step::kAgain
             : Step::kClosed;
}

Connection::Step Connection::CallHandler() {
  Request request = reader_.Take();
  ++request_number_;
  has_sent_continue_ = false;
  is_head_ = request.method == "HEAD";
  is_http10_ = reader_.is_http10();
  client_asked_to_close_ = !reader_.keep_alive();
  closes_ = client_asked_to_close_ ||
            request_number_ >= static_cast<uint64_t>(
                                   state_->options.requests_per_connection_max);
  request.peer = peer_;
  request.client = ClientOf(request, client_, rules_->trusted_proxies);
  request.local = local_;
  request.is_tls = stream_.is_tls();
  if (request.client != client_ && !rules_->Admits(request.client)) {
    ++state_->counters.denied;
    return WriteResponse(JsonError(403, "address is not allowed"));
  }
  ++state_->counters.requests;
  state_->table.Move(&entry_, Phase::kHandling);
  auto slot = std::make_unique<ResponseSlot>(this);
  is_in_handler_ = true;
  state_->handler(std::move(request),
                  [slot = std::move(slot)](Response response) {
                    slot->Give(std::move(response));
                  });
  is_in_handler_ = false;
  if (!response_.has_value()) return Step::kAwaitResponse;
  return WriteResponse(*std::exchange(response_, absl::nullopt));
}

void Connection::TakeResponse(uint64_t request_number, Response response) {
  // It may come after the timeout.
  if (is_closed_ || entry_.phase != Phase::kHandling ||
      request_number != request_number_) {
    return;
  }
  if (is_in_handler_) {
    response_ = std::move(response);
    return;
  }
  WriteResponse(response);
  Run();
}

Connection::Step Connection::Refuse(int status, absl::string_view error) {
  closes_ = true;
  is_head_ = false;
  client_asked_to_close_ = false;
  return WriteResponse(JsonError(status, error));
}

Connection::Step Connection::WriteResponse(const Response& response) {
  if (state_->is_leaving) closes_ = true;
  output_ = ResponseText(response, {is_head_, is_http10_, closes_});
  written_bytes_ = 0;
  state_->table.Move(&entry_, Phase::kWriting);
  return Step::kAgain;
}

Connection::Step Connection::Write() {
  absl::string_view rest = output_;
  rest.remove_prefix(written_bytes_);
  size_t size = 0;
  switch (stream_.Write(rest, &size)) {
    case Stream::Result::kDone:
      written_bytes_ += size;
      return size < rest.size() ? Step::kAgain : FinishResponse();
    case Stream::Result::kWantsRead:
      return Step::kAwaitRead;
    case Stream::Result::kWantsWrite:
      return Step::kAwaitWrite;
    case Stream::Result::kEnd:
    case Stream::Result::kError:
      break;
  }
  return Step::kClosed;
}

Connection::Step Connection::FinishResponse() {
  if (output_.capacity() > kOutputKeptBytesMax) output_ = std::string();
  if (closes_) return BeginClosing();
  const RequestReader::State state = reader_.ReadNext();
  state_->table.Move(&entry_,
                     reader_.is_empty() ? Phase::kIdle : Phase::kReading);
  return GoOn(state);
}

// --- the end

Connection::Step Connection::BeginClosing() {
  stream_.EndWrite();
  // Nothing more comes of this client.
  if (client_asked_to_close_ && reader_.is_empty()) return Step::kClosed;
  state_->table.Move(&entry_, Phase::kClosing);
  return Step::kAgain;
}

Connection::Step Connection::Drain() {
  size_t size = 0;
  switch (stream_.ReadSocket(Buffer(), kBufferBytes, &size)) {
    case Stream::Result::kDone:
      drained_bytes_ += size;
      return drained_bytes_ > kDrainedBytesMax ? Step::kClosed : Step::kAgain;
    case Stream::Result::kWantsRead:
    case Stream::Result::kWantsWrite:
      return Step::kAwaitRead;
    case Stream::Result::kEnd:
    case Stream::Result::kError:
      break;
  }
  return Step::kClosed;
}

void Connection::GoOnAfterDeadline() {
  ServerCounters& counters = state_->counters;
  switch (entry_.phase) {
    case Phase::kPreface:
      if (stream_.is_tls()) {
        ++counters.tls_handshakes_failed;
      } else if (!preface_.empty()) {
        ++counters.proxy_headers_refused;
      } else {
        ++counters.read_timeouts;
      }
      return CloseNow();
    case Phase::kIdle:
      ++counters.idle_timeouts;
      stream_.EndWrite();
      return CloseNow();
    case Phase::kReading:
      ++counters.read_timeouts;
      if (reader_.is_empty()) return CloseNow();
      CancelAwait();
      Refuse(408, "the request did not arrive in time");
      return Run();
    case Phase::kHandling:
      ++counters.response_timeouts;
      WriteResponse(JsonError(503, "no response in time"));
      return Run();
    case Phase::kWriting:
      ++counters.write_timeouts;
      return CloseNow();
    case Phase::kClosing:
      return CloseNow();
  }
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
