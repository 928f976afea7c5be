#include "testing/internal/e2e/paced_traffic.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {

PacedPlayers::PacedPlayers(const SocketAddress& gate, std::string name,
                           int count, int per_second)
    : gate_(gate),
      name_(std::move(name)),
      per_second_(per_second),
      clients_(static_cast<size_t>(count)),
      expected_(clients_.size(), 0) {
  for (LoopbackPeer& client : clients_) {
    EXPECT_TRUE(IsServedBy(&client, gate_, name_));
  }
  thread_ = std::thread([this] { Play(); });
}

void PacedPlayers::Stop() {
  if (!thread_.joinable()) return;
  is_over_ = true;
  thread_.join();
}

bool PacedPlayers::AwaitRounds(int64_t count) {
  const int64_t until = round_ + count;
  return AwaitTrue([&] { return round_ >= until; });
}

void PacedPlayers::Receive(size_t i) {
  for (auto reply = clients_[i].TryReceive(); reply.ok();
       reply = clients_[i].TryReceive()) {
    if (reply->payload != absl::StrCat(name_, ":", expected_[i])) {
      ++disordered_;
    }
    ++expected_[i];
    ++received_;
  }
}

void PacedPlayers::Play() {
  // Not all at once.
  const size_t slices = static_cast<size_t>(std::max(1, 500 / per_second_));
  const absl::Duration slice_time =
      absl::Seconds(1) / (per_second_ * static_cast<double>(slices));
  absl::Time next = absl::Now();
  while (!is_over_) {
    for (size_t slice = 0; slice < slices; ++slice) {
      for (size_t i = slice; i < clients_.size(); i += slices) {
        Receive(i);
        if (clients_[i].Send(gate_, absl::StrCat(round_.load())).ok()) ++sent_;
      }
      next += slice_time;
      absl::SleepFor(next - absl::Now());  // the pace of the traffic
    }
    ++round_;
  }
  AwaitTrue([&] {
    for (size_t i = 0; i < clients_.size(); ++i) Receive(i);
    return received_ >= sent_;
  });
}

Newcomers::Newcomers(const SocketAddress& gate, std::string name,
                     int per_second, absl::Duration patience)
    : gate_(gate),
      name_(std::move(name)),
      interval_(absl::Seconds(1) / per_second),
      patience_(patience),
      thread_([this] { Run(); }) {}

void Newcomers::Stop() {
  if (!thread_.joinable()) return;
  is_over_ = true;
  thread_.join();
}

void Newcomers::Run() {
  absl::Time next = absl::Now();
  while (!is_over_) {
    SendNext();
    Receive();
    next += interval_;
    absl::SleepFor(next - absl::Now());  // the pace of the traffic
  }
  AwaitTrue(
      [&] {
        Receive();
        return waiting_.empty();
      },
      patience_ + absl::Seconds(1));
}

void Newcomers::SendNext() {
  waiting_.push_back(
      {LoopbackPeer(), absl::StrCat("newcomer ", count_++), absl::Now()});
  EXPECT_TRUE(waiting_.back().peer.Send(gate_, waiting_.back().payload).ok());
}

void Newcomers::Receive() {
  const absl::Time now = absl::Now();
  for (auto client = waiting_.begin(); client != waiting_.end();) {
    const auto reply = client->peer.TryReceive();
    const bool is_late = now > client->came + patience_;
    if (!reply.ok() && !is_late) {
      ++client;
      continue;
    }
    {
      internal::MutexLock lock(&mutex_);
      if (reply.ok() &&
          reply->payload == absl::StrCat(name_, ":", client->payload)) {
        services_.push_back({client->came, now});
      } else {
        ++failed_;
      }
    }
    client = waiting_.erase(client);
  }
}

bool Newcomers::AwaitServed(int count) {
  const absl::Time since = absl::Now();
  return AwaitTrue([&] {
    internal::MutexLock lock(&mutex_);
    return std::count_if(services_.begin(), services_.end(),
                         [&](const Service& service) {
                           return service.came >= since;
                         }) >= count;
  });
}

int Newcomers::served() const {
  internal::MutexLock lock(&mutex_);
  return static_cast<int>(services_.size());
}

int Newcomers::failed() const {
  internal::MutexLock lock(&mutex_);
  return failed_;
}

absl::Duration Newcomers::longest_wait() const {
  internal::MutexLock lock(&mutex_);
  absl::Duration longest;
  for (const Service& service : services_) {
    longest = std::max(longest, service.served - service.came);
  }
  return longest;
}

absl::optional<absl::Time> Newcomers::FirstServed(absl::Time since) const {
  internal::MutexLock lock(&mutex_);
  absl::optional<absl::Time> first;
  for (const Service& service : services_) {
    if (service.came < since) continue;
    first = std::min(first.value_or(service.served), service.served);
  }
  return first;
}

}  // namespace test
}  // namespace udpgate
