// An HTTP/1.1 server of a test: one request per connection, a thread for each.
#ifndef UDPGATE_TESTING_INTERNAL_ICE_HTTP_STUB_H_
#define UDPGATE_TESTING_INTERNAL_ICE_HTTP_STUB_H_

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

struct StubRequest {
  std::string method;
  std::string target;
  // All lines behind the request line, each with its line end.
  std::string headers;
  std::string body;
  // What came before the request line: a PROXY header, or nothing.
  std::string preamble;
};

struct StubResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
};

// Threads: the handler is called on any number of threads at once.
class HttpStub {
 public:
  using Handler = std::function<StubResponse(const StubRequest&)>;

  // Listens on `address`, whose port may be 0. Ends the process if it cannot.
  HttpStub(const SocketAddress& address, Handler handler);
  // Waits for the handlers that run.
  ~HttpStub();
  HttpStub(const HttpStub&) = delete;
  HttpStub& operator=(const HttpStub&) = delete;

  const SocketAddress& address() const { return address_; }

 private:
  void Accept();
  void Serve(int fd);

  const Handler handler_;
  internal::UniqueFd fd_;
  SocketAddress address_;
  std::thread acceptor_;

  internal::Mutex mutex_;
  bool is_stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  std::list<int> open_ ABSL_GUARDED_BY(mutex_);
};

// The value of a header in `StubRequest::headers`; empty if there is none.
std::string HeaderOf(const StubRequest& request, const std::string& name);

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_ICE_HTTP_STUB_H_
