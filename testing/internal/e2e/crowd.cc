#include "testing/internal/e2e/crowd.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "udpgate/clock.h"

namespace udpgate {
namespace test {
namespace {

constexpr char kUnasked[] = "unasked";

int64_t NowNanoseconds() { return Clock::Monotonic()->NowNanoseconds(); }

}  // namespace

Crowd::Crowd(Options options, LoopbackPeer backend)
    : options_(std::move(options)), backend_(std::move(backend)) {
  // What all send at once must find room.
  const int bytes = 8 << 20;
  ::setsockopt(backend_.fd(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  for (int i = 0; i < options_.client_count; ++i) {
    clients_.push_back(
        {LoopbackPeer(options_.client), "", 0, -1, 0, false, false});
  }
  echo_thread_ = std::thread([this] { Echo(); });
}

Crowd::~Crowd() {
  is_over_ = true;
  if (thread_.joinable()) thread_.join();
  is_echo_over_ = true;
  echo_thread_.join();
}

void Crowd::Echo() {
  while (!is_echo_over_) {
    pollfd event = {backend_.fd(), POLLIN, 0};
    if (::poll(&event, 1, 100) <= 0) continue;
    for (auto datagram = backend_.TryReceive(); datagram.ok();
         datagram = backend_.TryReceive()) {
      (void)backend_.Send(
          datagram->from,
          absl::StrCat(datagram->payload, " ", datagram->from.ToString()));
    }
  }
}

void Crowd::Send(size_t index) {
  Client& client = clients_[index];
  if (client.peer.Send(options_.gate, absl::StrCat(client.next_number)).ok()) {
    ++sent_;
  }
  ++client.next_number;
}

void Crowd::Receive(size_t index) {
  Client& client = clients_[index];
  for (auto datagram = client.peer.TryReceive(); datagram.ok();
       datagram = client.peer.TryReceive()) {
    if (datagram->payload == kUnasked) {
      client.is_heard = true;
      continue;
    }
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(datagram->payload, absl::MaxSplits(' ', 1));
    int64_t number;
    if (!absl::SimpleAtoi(parts.first, &number)) continue;
    ++received_;
    if (client.relay.empty()) client.relay = parts.second;
    if (client.relay != parts.second) client.has_moved = true;
    const int64_t now = NowNanoseconds();
    if (client.replied_nanoseconds != 0 &&
        index < static_cast<size_t>(options_.fast_count)) {
      const int64_t silence = now - client.replied_nanoseconds;
      if (silence > longest_silence_nanoseconds_) {
        longest_silence_nanoseconds_ = silence;
      }
    }
    client.replied_nanoseconds = now;
    client.replied_number = std::max(client.replied_number, number);
  }
}

void Crowd::ReceiveAll() {
  for (size_t i = 0; i < clients_.size(); ++i) Receive(i);
}

bool Crowd::Join(const std::function<bool()>& is_enough,
                 absl::Duration timeout) {
  // So many at a time that no buffer overflows.
  constexpr size_t kSlice = 250;
  return AwaitTrue(
      [&] {
        for (size_t begin = 0; begin < clients_.size(); begin += kSlice) {
          const size_t end = std::min(begin + kSlice, clients_.size());
          for (size_t i = begin; i < end; ++i) Send(i);
          (void)AwaitTrue(
              [&] {
                bool have_all = true;
                for (size_t i = begin; i < end; ++i) {
                  Receive(i);
                  have_all &=
                      clients_[i].replied_number + 1 == clients_[i].next_number;
                }
                return have_all;
              },
              absl::Milliseconds(500));
        }
        return std::all_of(clients_.begin(), clients_.end(),
                           [](const Client& client) {
                             return !client.relay.empty();
                           }) &&
               is_enough();
      },
      timeout);
}

void Crowd::Start() {
  is_over_ = false;
  for (Client& client : clients_) client.replied_nanoseconds = 0;
  longest_silence_nanoseconds_ = 0;
  thread_ = std::thread([this] { Play(); });
}

void Crowd::Play() {
  constexpr absl::Duration kStep = absl::Milliseconds(2);
  const size_t fast_count =
      std::min(static_cast<size_t>(options_.fast_count), clients_.size());
  const size_t slow_count = clients_.size() - fast_count;
  const double slow_per_step =
      static_cast<double>(slow_count) *
      absl::FDivDuration(kStep, options_.slow_interval);
  const double fast_per_step =
      static_cast<double>(fast_count) *
      absl::FDivDuration(kStep, options_.fast_interval);
  double slow_due = 0;
  double fast_due = 0;
  size_t next_slow = 0;
  size_t next_fast = 0;
  absl::Time next = absl::Now();
  while (!is_over_) {
    for (fast_due += fast_per_step; fast_due >= 1; --fast_due) {
      Send(next_fast);
      next_fast = (next_fast + 1) % fast_count;
    }
    for (slow_due += slow_per_step; slow_due >= 1; --slow_due) {
      Receive(fast_count + next_slow);
      Send(fast_count + next_slow);
      next_slow = (next_slow + 1) % slow_count;
    }
    int64_t sent = 0;
    int64_t replied = INT64_MAX;
    for (size_t i = 0; i < fast_count; ++i) {
      Receive(i);
      sent = std::max(sent, clients_[i].next_number);
      replied = std::min(replied, clients_[i].replied_number);
    }
    fast_sent_ = sent;
    fast_replied_ = replied;
    next += kStep;
    absl::SleepFor(next - absl::Now());  // the pace of the traffic
  }
}

Crowd::Report Crowd::Stop() {
  is_over_ = true;
  thread_.join();
  ReceiveAll();
  Report report;
  report.sent = sent_;
  report.received = received_;
  report.moved = static_cast<int>(
      std::count_if(clients_.begin(), clients_.end(),
                    [](const Client& client) { return client.has_moved; }));
  report.longest_silence =
      absl::Nanoseconds(longest_silence_nanoseconds_.load());
  return report;
}

absl::Duration Crowd::TakeLongestSilence() {
  return absl::Nanoseconds(longest_silence_nanoseconds_.exchange(0));
}

bool Crowd::AwaitAllServed(absl::Duration timeout) {
  const int64_t sent = fast_sent_;
  return AwaitTrue([&] { return fast_replied_ >= sent; }, timeout);
}

int Crowd::CountServed(absl::Duration timeout) {
  constexpr size_t kSlice = 250;
  int count = 0;
  for (size_t begin = 0; begin < clients_.size(); begin += kSlice) {
    const size_t end = std::min(begin + kSlice, clients_.size());
    for (size_t i = begin; i < end; ++i) Send(i);
    const auto count_slice = [&] {
      int served = 0;
      for (size_t i = begin; i < end; ++i) {
        Receive(i);
        const Client& client = clients_[i];
        if (client.replied_number + 1 == client.next_number &&
            !client.has_moved) {
          ++served;
        }
      }
      return served;
    };
    (void)AwaitTrue(
        [&] { return count_slice() == static_cast<int>(end - begin); },
        timeout);
    count += count_slice();
  }
  return count;
}

int Crowd::CountHeard(absl::Duration timeout) {
  for (Client& client : clients_) {
    client.is_heard = false;
    const absl::StatusOr<SocketAddress> relay =
        SocketAddress::Parse(client.relay);
    if (relay.ok()) (void)backend_.Send(*relay, kUnasked);
  }
  const auto count = [this] {
    ReceiveAll();
    return std::count_if(clients_.begin(), clients_.end(),
                         [](const Client& client) { return client.is_heard; });
  };
  (void)AwaitTrue([&] { return count() == static_cast<int>(clients_.size()); },
                  timeout);
  return static_cast<int>(count());
}

}  // namespace test
}  // namespace udpgate
