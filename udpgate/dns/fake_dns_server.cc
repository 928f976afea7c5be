#include "udpgate/dns/fake_dns_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace udpgate {
namespace test {
namespace {

constexpr size_t kHeaderBytes = 12;
constexpr uint16_t kTypeA = 1;
constexpr uint16_t kTypeAaaa = 28;
constexpr int kNoSuchName = 3;

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::abort();
}

uint16_t ReadUint16(const std::string& bytes, size_t position) {
  return static_cast<uint16_t>(static_cast<uint8_t>(bytes[position]) << 8 |
                               static_cast<uint8_t>(bytes[position + 1]));
}

void AppendUint16(std::string* bytes, int value) {
  bytes->push_back(static_cast<char>(value >> 8));
  bytes->push_back(static_cast<char>(value & 0xff));
}

int TypeOf(int family) {
  if (family == 0) return 0;
  return family == AF_INET ? kTypeA : kTypeAaaa;
}

// The name of the question in lower case; `end` is where its type begins, or 0
// if the query is malformed.
std::string ReadName(const std::string& query, size_t* end) {
  std::string name;
  size_t position = kHeaderBytes;
  *end = 0;
  while (position < query.size() && query[position] != 0) {
    const size_t size = static_cast<uint8_t>(query[position]);
    if (position + 1 + size >= query.size()) return "";
    absl::StrAppend(&name, name.empty() ? "" : ".",
                    query.substr(position + 1, size));
    position += 1 + size;
  }
  if (position + 5 > query.size()) return "";
  *end = position + 1;
  return absl::AsciiStrToLower(name);
}

}  // namespace

FakeDnsServer::FakeDnsServer(uint16_t port)
    : socket_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
      stop_(eventfd(0, EFD_CLOEXEC)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(socket_.get(), generic, size) != 0) Die("bind");
  if (getsockname(socket_.get(), generic, &size) != 0) Die("getsockname");
  port_ = ntohs(address.sin_port);
  address_ = absl::StrCat("127.0.0.1:", port_);
  thread_ = std::thread([this] { Run(); });
}

FakeDnsServer::~FakeDnsServer() {
  const uint64_t one = 1;
  if (write(stop_.get(), &one, sizeof(one)) != sizeof(one)) Die("write");
  thread_.join();
}

void FakeDnsServer::Set(absl::string_view name, std::vector<std::string> ips) {
  internal::MutexLock lock(&mutex_);
  ips_[std::string(name)] = std::move(ips);
}

void FakeDnsServer::FailWith(int response_code) {
  internal::MutexLock lock(&mutex_);
  response_code_ = response_code;
}

void FakeDnsServer::Swallow(int family) {
  internal::MutexLock lock(&mutex_);
  swallowed_type_ = TypeOf(family);
}

void FakeDnsServer::FailFamilyWith(int family, int response_code) {
  internal::MutexLock lock(&mutex_);
  failing_type_ = TypeOf(family);
  failing_type_code_ = response_code;
}

void FakeDnsServer::Hold() {
  internal::MutexLock lock(&mutex_);
  is_holding_ = true;
}

void FakeDnsServer::Release() {
  internal::MutexLock lock(&mutex_);
  is_holding_ = false;
  for (const Query& query : std::exchange(held_, {})) Answer(query);
}

int FakeDnsServer::query_count(absl::string_view name) const {
  internal::MutexLock lock(&mutex_);
  const auto found = query_counts_.find(std::string(name));
  return found == query_counts_.end() ? 0 : found->second;
}

int FakeDnsServer::answer_count(absl::string_view name) const {
  internal::MutexLock lock(&mutex_);
  const auto found = answer_counts_.find(std::string(name));
  return found == answer_counts_.end() ? 0 : found->second;
}

void FakeDnsServer::Run() {
  for (;;) {
    pollfd polled[2] = {{socket_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (poll(polled, 2, -1) < 0) continue;
    if (polled[1].revents != 0) return;
    char buffer[1500];
    Query query{};
    socklen_t size = sizeof(query.from);
    const ssize_t received =
        recvfrom(socket_.get(), buffer, sizeof(buffer), MSG_DONTWAIT,
                 reinterpret_cast<sockaddr*>(&query.from), &size);
    if (received < static_cast<ssize_t>(kHeaderBytes)) continue;
    query.bytes.assign(buffer, static_cast<size_t>(received));
    size_t type_position;
    const std::string name = ReadName(query.bytes, &type_position);
    if (type_position == 0) continue;
    internal::MutexLock lock(&mutex_);
    if (ReadUint16(query.bytes, type_position) == kTypeA) {
      ++query_counts_[name];
    }
    if (ReadUint16(query.bytes, type_position) == swallowed_type_) continue;
    if (is_holding_) {
      held_.push_back(std::move(query));
    } else {
      Answer(query);
    }
  }
}

void FakeDnsServer::Answer(const Query& query) {
  size_t type_position;
  const std::string name = ReadName(query.bytes, &type_position);
  const std::string answer = MakeAnswer(query.bytes, name, type_position + 4);
  ++answer_counts_[name];
  // The client may have closed its socket.
  (void)sendto(socket_.get(), answer.data(), answer.size(), 0,
               reinterpret_cast<const sockaddr*>(&query.from),
               sizeof(query.from));
}

std::string FakeDnsServer::MakeAnswer(const std::string& query,
                                      absl::string_view name,
                                      size_t question_end) const {
  const uint16_t type = ReadUint16(query, question_end - 4);
  const auto found = ips_.find(std::string(name));
  int code = type == failing_type_ ? failing_type_code_ : response_code_;
  if (code == 0 && found == ips_.end()) code = kNoSuchName;
  std::string records;
  int count = 0;
  if (code == 0) {
    for (const std::string& ip : found->second) {
      const bool is_v6 = ip.find(':') != std::string::npos;
      if (type != (is_v6 ? kTypeAaaa : kTypeA)) continue;
      char address[16];
      if (inet_pton(is_v6 ? AF_INET6 : AF_INET, ip.c_str(), address) != 1) {
        Die("inet_pton");
      }
      const int address_bytes = is_v6 ? 16 : 4;
      AppendUint16(&records, 0xc00c);  // the name of the question
      AppendUint16(&records, type);
      AppendUint16(&records, 1);  // class IN
      AppendUint16(&records, 0);  // time to live, four bytes
      AppendUint16(&records, 60);
      AppendUint16(&records, address_bytes);
      records.append(address, static_cast<size_t>(address_bytes));
      ++count;
    }
  }
  std::string answer = query.substr(0, 2);  // its ID
  AppendUint16(&answer, 0x8180 | code);     // response, recursion available
  AppendUint16(&answer, 1);                 // questions
  AppendUint16(&answer, count);
  AppendUint16(&answer, 0);
  AppendUint16(&answer, 0);
  answer.append(query, kHeaderBytes, question_end - kHeaderBytes);
  return answer + records;
}

}  // namespace test
}  // namespace udpgate
