#include "udpgate/admin/internal/http_front.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "udpgate/internal/util/thread.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::udpgate::internal::MutexLock;
using ::udpgate::internal::StartThread;
using ::udpgate::internal::ThreadRole;
using ::udpgate::internal::UniqueFd;

constexpr uint64_t kListenId = 0;
constexpr uint64_t kWakeId = 1;
constexpr int kListenBacklog = 128;

using TimePoint = std::chrono::steady_clock::time_point;

TimePoint Now() { return std::chrono::steady_clock::now(); }

void AddToEpoll(int epoll_fd, int fd, uint64_t id, uint32_t events) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = id;
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

}  // namespace

struct HttpFront::Connection {
  enum class State { kReading, kHandling, kWriting };

  uint64_t id = 0;
  UniqueFd fd;
  State state = State::kReading;
  TimePoint deadline;
  std::list<Connection*>::iterator place;  // in the list of its state
  SocketAddress client;
  absl::optional<HttpRequestReader> reader;  // while kReading
  std::string output;
  size_t written = 0;
  bool closing = false;  // all is sent; waits for the client to close
};

absl::StatusOr<std::unique_ptr<HttpFront>> HttpFront::Create(
    const HttpFrontOptions& options, Handler handler) {
  std::unique_ptr<HttpFront> front(new HttpFront(options, std::move(handler)));
  if (absl::Status status = front->Listen(); !status.ok()) return status;
  return front;
}

HttpFront::HttpFront(const HttpFrontOptions& options, Handler handler)
    : options_(options), handler_(std::move(handler)) {}

HttpFront::~HttpFront() { Stop(); }

absl::Status HttpFront::Bind() {
  const std::string name = options_.listen_address.ToString();
  sockaddr_storage address;
  const int family = options_.listen_address.family();
  const socklen_t size = options_.listen_address.ToSockaddr(family, &address);
  if (size == 0)
    return absl::InvalidArgumentError("listen address is not valid");
  listen_fd_ =
      UniqueFd(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listen_fd_.is_open()) return absl::ErrnoToStatus(errno, name);
  const int on = 1;
  setsockopt(listen_fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(listen_fd_.get(), reinterpret_cast<const sockaddr*>(&address),
           size) != 0 ||
      listen(listen_fd_.get(), kListenBacklog) != 0) {
    return absl::ErrnoToStatus(errno, name);
  }
  return absl::OkStatus();
}

absl::Status HttpFront::Listen() {
  const std::string name = options_.listen_address.ToString();
  if (options_.listen_fd >= 0) {
    listen_fd_ = UniqueFd(options_.listen_fd);
  } else if (absl::Status status = Bind(); !status.ok()) {
    return status;
  }
  sockaddr_storage address;
  socklen_t size = sizeof(address);
  if (getsockname(listen_fd_.get(), reinterpret_cast<sockaddr*>(&address),
                  &size) != 0) {
    return absl::ErrnoToStatus(errno, name);
  }
  address_ = SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), size);
  epoll_fd_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  wake_fd_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_fd_.is_open() || !wake_fd_.is_open()) {
    return absl::ErrnoToStatus(errno, "epoll");
  }
  AddToEpoll(epoll_fd_.get(), listen_fd_.get(), kListenId, EPOLLIN);
  AddToEpoll(epoll_fd_.get(), wake_fd_.get(), kWakeId, EPOLLIN);
  return absl::OkStatus();
}

absl::Status HttpFront::Start() {
  const auto start = [this](const std::string& name,
                            void (HttpFront::*body)()) {
    absl::StatusOr<std::thread> thread = StartThread(
        name, ThreadRole::kControlPlane, [this, body] { (this->*body)(); });
    if (!thread.ok()) return thread.status();
    threads_.push_back(*std::move(thread));
    return absl::OkStatus();
  };
  absl::Status status = start("udpgate-admin", &HttpFront::Loop);
  for (int i = 0; i < options_.worker_count && status.ok(); ++i) {
    status = start(absl::StrCat("udpgate-adm-", i), &HttpFront::Work);
  }
  if (!status.ok()) Stop();
  return status;
}

void HttpFront::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    jobs_changed_.SignalAll();
  }
  if (wake_fd_.is_open()) eventfd_write(wake_fd_.get(), 1);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  reading_.clear();
  writing_.clear();
  connections_.clear();
  listen_fd_.Reset();
}

HttpFront::Counts HttpFront::counts() const {
  return {accepted_, evicted_, timed_out_, refused_};
}

void HttpFront::Loop() {
  constexpr int kEventsMax = 64;
  epoll_event events[kEventsMax];
  while (!stopping_) {
    const int count =
        epoll_wait(epoll_fd_.get(), events, kEventsMax, WaitMilliseconds());
    for (int i = 0; i < count; ++i) {
      const uint64_t id = events[i].data.u64;
      if (id == kListenId) {
        AcceptAll();
      } else if (id == kWakeId) {
        eventfd_t value;
        eventfd_read(wake_fd_.get(), &value);
        TakeAnswers();
      } else if (const auto it = connections_.find(id);
                 it != connections_.end()) {
        Connection* const connection = it->second.get();
        if (connection->state == Connection::State::kReading) {
          Read(connection);
        } else if (connection->state == Connection::State::kWriting) {
          Write(connection);
        } else {
          Close(connection);  // lost while its request is handled
        }
      }
    }
    CloseOverdue();
  }
}

int HttpFront::WaitMilliseconds() const {
  TimePoint next = TimePoint::max();
  if (!reading_.empty()) next = reading_.front()->deadline;
  if (!writing_.empty()) next = std::min(next, writing_.front()->deadline);
  if (next == TimePoint::max()) return -1;
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(next - Now());
  return static_cast<int>(
      std::clamp<int64_t>(left.count() + 1, 0, int64_t{60000}));
}

void HttpFront::AcceptAll() {
  // Bounded, so that a flood of connections leaves time for the others.
  for (int i = 0; i < 64; ++i) {
    sockaddr_storage address;
    socklen_t size = sizeof(address);
    UniqueFd fd(accept4(listen_fd_.get(), reinterpret_cast<sockaddr*>(&address),
                        &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.is_open()) {
      // Out of descriptors: closing a connection frees one. Otherwise the
      // listener would stay readable and this thread would spin.
      if ((errno == EMFILE || errno == ENFILE) && !reading_.empty()) {
        ++evicted_;
        Close(reading_.front());
      } else if (errno == EMFILE || errno == ENFILE) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
      return;
    }
    ++accepted_;
    if (connections_.size() >= static_cast<size_t>(options_.connections_max)) {
      std::list<Connection*>& oldest = reading_.empty() ? writing_ : reading_;
      if (oldest.empty()) {
        ++refused_;
        continue;  // closes the new one: all others are with a worker
      }
      ++evicted_;
      Close(oldest.front());
    }
    auto connection = std::make_unique<Connection>();
    connection->id = next_id_++;
    connection->client = SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&address), size);
    connection->reader.emplace(options_.header_bytes_max,
                               options_.body_bytes_max);
    connection->deadline =
        Now() + absl::ToChronoNanoseconds(options_.read_timeout);
    AddToEpoll(epoll_fd_.get(), fd.get(), connection->id, EPOLLIN);
    connection->fd = std::move(fd);
    connection->place = reading_.insert(reading_.end(), connection.get());
    connections_[connection->id] = std::move(connection);
  }
}

void HttpFront::Read(Connection* connection) {
  char buffer[16384];
  while (true) {
    const ssize_t count =
        recv(connection->fd.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) return Close(connection);
    switch (connection->reader->Append(
        absl::string_view(buffer, static_cast<size_t>(count)))) {
      case HttpRequestReader::State::kIncomplete:
        break;
      case HttpRequestReader::State::kRefused:
        return Refuse(connection, connection->reader->error_status(),
                      connection->reader->error());
      case HttpRequestReader::State::kComplete:
        return Queue(connection);
    }
  }
}

void HttpFront::Queue(Connection* connection) {
  Job job;
  job.connection_id = connection->id;
  job.request = connection->reader->Take();
  job.request.client = connection->client;
  sockaddr_storage address;
  socklen_t size = sizeof(address);
  if (getsockname(connection->fd.get(), reinterpret_cast<sockaddr*>(&address),
                  &size) == 0) {
    job.request.local = SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&address), size);
  }
  bool is_queued = false;
  {
    MutexLock lock(&mutex_);
    if (jobs_.size() < static_cast<size_t>(options_.queue_size)) {
      jobs_.push_back(std::move(job));
      jobs_changed_.SignalOne();
      is_queued = true;
    }
  }
  if (!is_queued) return Refuse(connection, 503, "too many queued requests");
  reading_.erase(connection->place);
  connection->state = Connection::State::kHandling;
  connection->reader.reset();
  // Without events: only EPOLLHUP and EPOLLERR are reported.
  epoll_event event = {};
  event.data.u64 = connection->id;
  epoll_ctl(epoll_fd_.get(), EPOLL_CTL_MOD, connection->fd.get(), &event);
}

void HttpFront::Refuse(Connection* connection, int status,
                       absl::string_view error) {
  ++refused_;
  Respond(connection, ErrorResponse(status, error));
}

void HttpFront::Work() {
  while (true) {
    Job job;
    {
      MutexLock lock(&mutex_);
      while (jobs_.empty() && !stopping_) jobs_changed_.Wait(&mutex_);
      if (stopping_) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    std::string response = handler_(job.request);
    {
      MutexLock lock(&mutex_);
      answers_.push_back({job.connection_id, std::move(response)});
    }
    eventfd_write(wake_fd_.get(), 1);
  }
}

void HttpFront::TakeAnswers() {
  std::vector<Answer> answers;
  {
    MutexLock lock(&mutex_);
    answers.swap(answers_);
  }
  for (Answer& answer : answers) {
    const auto it = connections_.find(answer.connection_id);
    if (it == connections_.end()) continue;
    Respond(it->second.get(), std::move(answer.response));
  }
}

void HttpFront::Respond(Connection* connection, std::string response) {
  if (connection->state == Connection::State::kReading) {
    reading_.erase(connection->place);
  }
  connection->state = Connection::State::kWriting;
  connection->deadline =
      Now() + absl::ToChronoNanoseconds(options_.write_timeout);
  connection->place = writing_.insert(writing_.end(), connection);
  connection->output = std::move(response);
  connection->reader.reset();
  epoll_event event = {};
  event.events = EPOLLOUT;
  event.data.u64 = connection->id;
  epoll_ctl(epoll_fd_.get(), EPOLL_CTL_MOD, connection->fd.get(), &event);
}

void HttpFront::Write(Connection* connection) {
  const std::string& output = connection->output;
  while (connection->written < output.size()) {
    const ssize_t count =
        send(connection->fd.get(), output.data() + connection->written,
             output.size() - connection->written, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) return Close(connection);
    connection->written += static_cast<size_t>(count);
  }
  if (!connection->closing) {
    // If the client still sends, a close now would reset the connection
    // (RFC 9112, section 9.6) and the client would lose the response. So wait
    // until the client closes.
    connection->closing = true;
    shutdown(connection->fd.get(), SHUT_WR);
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u64 = connection->id;
    epoll_ctl(epoll_fd_.get(), EPOLL_CTL_MOD, connection->fd.get(), &event);
    return;
  }
  char buffer[16384];
  const ssize_t count =
      recv(connection->fd.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
  if (count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR))) return;
  Close(connection);
}

void HttpFront::Close(Connection* connection) {
  if (connection->state == Connection::State::kReading) {
    reading_.erase(connection->place);
  } else if (connection->state == Connection::State::kWriting) {
    writing_.erase(connection->place);
  }
  connections_.erase(connection->id);
}

void HttpFront::CloseOverdue() {
  const TimePoint now = Now();
  for (std::list<Connection*>* list : {&reading_, &writing_}) {
    while (!list->empty() && list->front()->deadline <= now) {
      if (!list->front()->closing) ++timed_out_;
      Close(list->front());
    }
  }
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
