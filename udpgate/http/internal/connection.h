// One connection of a server, from accept(2) to close(2).
#ifndef UDPGATE_HTTP_INTERNAL_CONNECTION_H_
#define UDPGATE_HTTP_INTERNAL_CONNECTION_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/optional.h"
#include "udpgate/http/internal/connection_table.h"
#include "udpgate/http/internal/request_reader.h"
#include "udpgate/http/internal/server_state.h"
#include "udpgate/http/internal/stream.h"
#include "udpgate/http/message.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {
namespace internal {

// A connection is in one `Phase` at a time and makes steps until it must wait:
// for its socket, for the handler, or for its deadline, which the table has.
//
// Threads: the public methods from any, while they run; all else on the thread
// of its io_context.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<ServerState> state,
             boost::asio::io_context* context, udpgate::internal::UniqueFd fd,
             const SocketAddress& peer,
             std::shared_ptr<const AccessRules> rules);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Its place in the table, where it must be before `Start`.
  ConnectionTable::Entry* entry() { return &entry_; }
  // Its request gets a 503. Before `Start`.
  void SetRefused() { is_refused_ = true; }

  void Start();
  void Close();
  // The deadline has passed that it had after this many moves.
  void HandleOverdue(uint64_t moves);

 private:
  class ResponseSlot;

  // What a step leads to.
  enum class Step {
    kAgain,
    kAwaitRead,
    kAwaitWrite,
    kAwaitResponse,
    kClosed,
  };

  void Begin();
  void Run();
  Step RunStep();
  void Await(boost::asio::posix::descriptor_base::wait_type type);
  void CancelAwait();
  void CloseNow();

  Step ReadPreface();
  Step ReadProxyHeader(absl::string_view peeked);
  Step RefuseProxyHeader(absl::string_view error);
  Step Handshake();
  Step BeginRequests();

  Step ReadRequest();
  Step GoOn(RequestReader::State state);
  Step CallHandler();
  void TakeResponse(uint64_t request_number, Response response);
  // Ends the connection after this response.
  Step Refuse(int status, absl::string_view error);
  Step WriteResponse(const Response& response);
  Step Write();
  Step FinishResponse();
  Step BeginClosing();
  Step Drain();
  void GoOnAfterDeadline();

  // First, so that it is destroyed last.
  const ServerState::Presence presence_;
  const std::shared_ptr<ServerState> state_;
  boost::asio::io_context* const context_;
  udpgate::internal::UniqueFd fd_;  // until `Begin`
  boost::asio::posix::basic_stream_descriptor<
      boost::asio::io_context::executor_type>
      descriptor_;
  const std::shared_ptr<const AccessRules> rules_;
  std::shared_ptr<const TlsContext> tls_;
  Stream stream_;
  ConnectionTable::Entry entry_;
  const SocketAddress peer_;
  SocketAddress client_;
  SocketAddress local_;
  // While it is open: it may wait for nothing but the response.
  std::shared_ptr<Connection> self_;
  bool is_refused_ = false;
  bool is_closed_ = false;
  // A wait of an older number has been cancelled.
  uint64_t wait_number_ = 0;

  // Bytes that may be the beginning of a PROXY header.
  std::string preface_;
  bool has_proxy_header_ = false;

  RequestReader reader_;
  bool has_sent_continue_ = false;
  bool client_asked_to_close_ = false;
  // Of the request that is handled.
  uint64_t request_number_ = 0;
  bool is_head_ = false;
  bool is_http10_ = false;
  bool closes_ = true;
  bool is_in_handler_ = false;
  absl::optional<Response> response_;

  std::string output_;
  size_t written_bytes_ = 0;
  size_t drained_bytes_ = 0;
};

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_CONNECTION_H_
