#include "udpgate/admin/internal/router.h"

#include <cstddef>
#include <exception>
#include <utility>

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::httplib::Request;
using ::httplib::Response;
using ::nlohmann::json;

// Reads a complete request, and collects the response.
class MemoryStream final : public httplib::Stream {
 public:
  explicit MemoryStream(const HttpRequestText& request)
      : request_(request), input_(request.head + request.body) {}

  std::string TakeOutput() { return std::move(output_); }

  bool is_readable() const override { return position_ < input_.size(); }
  bool is_writable() const override { return true; }
  ssize_t read(char* out, size_t size) override {
    const size_t count = input_.copy(out, size, position_);
    position_ += count;
    return static_cast<ssize_t>(count);
  }
  ssize_t write(const char* data, size_t size) override {
    output_.append(data, size);
    return static_cast<ssize_t>(size);
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip = request_.client.IpToString();
    port = request_.client.port();
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    ip = request_.local.IpToString();
    port = request_.local.port();
  }
  socket_t socket() const override { return INVALID_SOCKET; }

 private:
  const HttpRequestText& request_;
  const std::string input_;
  size_t position_ = 0;
  std::string output_;
};

}  // namespace

Router::Router() {
  set_error_handler([](const Request&, Response& response) {
    if (!response.body.empty()) return;
    SetError(&response, response.status,
             response.status == 404 ? "no such path"
                                    : "the request cannot be processed");
  });
  set_exception_handler(
      [](const Request&, Response& response, const std::exception_ptr&) {
        SetError(&response, 500, "internal error");
      });
  set_default_headers(
      {{"Cache-Control", "no-store"},
       {"X-Content-Type-Options", "nosniff"},
       {"Referrer-Policy", "no-referrer"},
       {"Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src "
        "'unsafe-inline'; connect-src 'self'; img-src data:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"}});
}

std::string Router::Process(const HttpRequestText& request) {
  MemoryStream stream(request);
  bool closed = false;
  process_request(stream, /*close_connection=*/true, closed, [](Request&) {});
  std::string response = stream.TakeOutput();
  if (response.empty()) return ErrorResponse(400, "not an HTTP/1.1 request");
  return response;
}

void SetJson(Response* response, int status, const json& value) {
  response->status = status;
  // A label or message of the host program may be invalid UTF-8.
  response->set_content(
      value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n",
      "application/json");
}

void SetError(Response* response, int status, const std::string& error) {
  SetJson(response, status, {{"error", error}});
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
