#include "testing/echo_backend.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace udpgate {
namespace test {
namespace {

constexpr size_t kReceivedMax = 200000;
constexpr int kPortTriesMax = 1000;

LoopbackPeer BindFreePort(const SocketAddress& address) {
  if (address.port() != 0) return LoopbackPeer(address);
  std::random_device random;
  std::uniform_int_distribution<int> ports(10000, 19999);
  for (int i = 0; i < kPortTriesMax; ++i) {
    absl::StatusOr<LoopbackPeer> peer = LoopbackPeer::Bind(
        address.WithPort(static_cast<uint16_t>(ports(random))));
    if (peer.ok()) return *std::move(peer);
  }
  std::fprintf(stderr, "no free UDP port on %s\n",
               address.IpToString().c_str());
  std::abort();
}

}  // namespace

EchoBackend::EchoBackend(absl::string_view name)
    : EchoBackend(name, SocketAddress::Ipv4Loopback(0)) {}

EchoBackend::EchoBackend(absl::string_view name, const SocketAddress& address)
    : name_(name), stop_event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  peer_ = std::make_unique<LoopbackPeer>(BindFreePort(address));
  address_ = peer_->address();
  thread_ = std::thread([this] { Run(); });
}

EchoBackend::~EchoBackend() { Stop(); }

void EchoBackend::Stop() {
  if (!thread_.joinable()) return;
  ::eventfd_write(stop_event_.get(), 1);
  thread_.join();
  peer_.reset();
}

void EchoBackend::Start() {
  if (thread_.joinable()) return;
  eventfd_t ignored;
  ::eventfd_read(stop_event_.get(), &ignored);
  peer_ = std::make_unique<LoopbackPeer>(address_);
  thread_ = std::thread([this] { Run(); });
}

void EchoBackend::Run() {
  for (;;) {
    pollfd ready[2] = {{peer_->fd(), POLLIN, 0},
                       {stop_event_.get(), POLLIN, 0}};
    ::poll(ready, 2, -1);
    if (ready[1].revents != 0) return;
    absl::StatusOr<Datagram> datagram = peer_->TryReceive();
    if (datagram.ok()) Handle(*std::move(datagram));
  }
}

void EchoBackend::Handle(Datagram datagram) {
  // Known before it is answered: who has the answer finds it in `received`.
  const SocketAddress from = datagram.from;
  // Decided before it is known to have come: who waits for that may then change
  // it for the next one.
  const bool is_answered = !silent_;
  const std::string reply = name_.empty()
                                ? datagram.payload
                                : absl::StrCat(name_, ":", datagram.payload);
  {
    internal::MutexLock lock(&mutex_);
    ++received_count_;
    if (known_sources_.insert(from).second) sources_.push_back(from);
    if (received_.size() < kReceivedMax) {
      received_.push_back(std::move(datagram));
    }
    received_changed_.SignalAll();
  }
  // A client that is gone is no failure of the backend.
  if (is_answered) peer_->Send(from, reply).IgnoreError();
}

absl::Status EchoBackend::Send(const SocketAddress& to,
                               absl::string_view payload) const {
  return peer_->Send(to, payload);
}

std::vector<Datagram> EchoBackend::received() const {
  internal::MutexLock lock(&mutex_);
  return received_;
}

size_t EchoBackend::received_count() const {
  internal::MutexLock lock(&mutex_);
  return received_count_;
}

bool EchoBackend::AwaitReceived(size_t count, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  internal::MutexLock lock(&mutex_);
  while (received_count_ < count) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    received_changed_.WaitFor(&mutex_, absl::ToChronoNanoseconds(left));
  }
  return true;
}

std::vector<SocketAddress> EchoBackend::sources() const {
  internal::MutexLock lock(&mutex_);
  return sources_;
}

bool AwaitServedBy(LoopbackPeer* client, const SocketAddress& gate,
                   absl::string_view name, absl::Duration timeout) {
  // Long enough for a reply on a busy machine; a late one is only sent for
  // again.
  constexpr absl::Duration kReplyTimeout = absl::Milliseconds(200);
  int number = 0;
  return AwaitTrue(
      [&] {
        const std::string payload = absl::StrCat("await ", ++number);
        if (!client->Send(gate, payload).ok()) return false;
        const std::string wanted = absl::StrCat(name, ":", payload);
        // Replies of others, and late ones, are read and forgotten.
        for (;;) {
          absl::StatusOr<Datagram> reply = client->Receive(kReplyTimeout);
          if (!reply.ok()) return false;
          if (reply->payload == wanted) return true;
        }
      },
      timeout);
}

}  // namespace test
}  // namespace udpgate
