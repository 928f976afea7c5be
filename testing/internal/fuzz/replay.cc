// The main function of a fuzz target without libFuzzer: runs the files of its
// corpus, and mutations of them that are the same each time.
//
//   address_corpus_test [--mutations=N] FILE_OR_DIRECTORY...
//
// A failure names the input and shows its bytes; a FILE alone replays what
// libFuzzer has found.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "testing/internal/fuzz/rules.h"

// Of the sanitizers' common interface; null where there is none.
extern "C" void __sanitizer_set_death_callback(void (*callback)())
    __attribute__((weak));

namespace udpgate {
namespace test {
namespace {

constexpr size_t kMutatedBytesMax = 4096;
constexpr int kMutationsInARowMax = 5;
// For one input; they take microseconds to milliseconds.
constexpr unsigned kSecondsMax = 20;
// A parser that believes a length in its input asks for gigabytes. (A sanitizer
// reserves more by itself.)
[[maybe_unused]] constexpr rlim_t kAddressSpaceBytesMax = rlim_t{2} << 30;
constexpr uint64_t kSeed = 19132;

struct Input {
  std::string name;
  std::string bytes;
};

// What runs now, for the report of a failure.
const Input* current_input = nullptr;

// From here to Watch: only what a signal handler may do (signal-safety(7)).
void Print(const char* text, size_t size) {
  if (write(STDERR_FILENO, text, size) < 0) return;
}

void ReportCurrentInput() {
  const Input* const input = std::exchange(current_input, nullptr);
  if (input == nullptr) return;
  static constexpr char kBefore[] = "\nfailed on ";
  Print(kBefore, std::strlen(kBefore));
  Print(input->name.data(), input->name.size());
  static constexpr char kBetween[] = ", in hexadecimal:\n";
  Print(kBetween, std::strlen(kBetween));
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const char c : input->bytes) {
    const auto byte = static_cast<unsigned char>(c);
    const char text[2] = {kDigits[byte >> 4], kDigits[byte & 15]};
    Print(text, sizeof(text));
  }
  Print("\n", 1);
}

void OnSignal(int signal_number) {
  if (signal_number == SIGALRM) {
    static constexpr char kLate[] = "\nan input takes far too long";
    Print(kLate, std::strlen(kLate));
  }
  ReportCurrentInput();
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

void Watch() {
  signal(SIGABRT, OnSignal);
  signal(SIGALRM, OnSignal);
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(ReportCurrentInput);
  } else {
    for (const int crash : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) {
      signal(crash, OnSignal);
    }
  }
#ifndef UDPGATE_SANITIZED
  const rlimit limit = {kAddressSpaceBytesMax, kAddressSpaceBytesMax};
  if (setrlimit(RLIMIT_AS, &limit) != 0) std::perror("setrlimit");
#endif
}

void Run(const Input& input) {
  // Exactly as large as the input, so that a read behind its end is noticed.
  const std::vector<uint8_t> data(input.bytes.begin(), input.bytes.end());
  current_input = &input;
  alarm(kSecondsMax);
  LLVMFuzzerTestOneInput(data.data(), data.size());
  alarm(0);
  current_input = nullptr;
}

// Changes like libFuzzer's own, without its knowledge of the coverage.
class Mutator {
 public:
  explicit Mutator(const std::vector<Input>& corpus) : corpus_(corpus) {}

  Input Next() {
    const Input& base = corpus_[Below(corpus_.size())];
    Input mutated{absl::StrCat("mutation ", ++count_,
                               " of the corpus, made of ", base.name),
                  base.bytes.substr(0, kMutatedBytesMax)};
    for (size_t left = 1 + Below(kMutationsInARowMax); left > 0; --left) {
      Mutate(&mutated.bytes);
    }
    mutated.bytes.resize(std::min(mutated.bytes.size(), kMutatedBytesMax));
    return mutated;
  }

 private:
  size_t Below(size_t limit) { return random_() % limit; }

  char AnyByte() {
    static constexpr char kTelling[] =
        "\0\r\n\t :%/,.[]=\"'\\#$*+-0123456789af\x7f\xff";
    return Below(2) == 0 ? kTelling[Below(sizeof(kTelling) - 1)]
                         : static_cast<char>(Below(256));
  }

  void Mutate(std::string* bytes) {
    const size_t begin = Below(bytes->size() + 1);
    const size_t rest = bytes->size() - begin;
    switch (Below(6)) {
      case 0:
        bytes->insert(begin, 1, AnyByte());
        return;
      case 1:
        if (rest > 0) (*bytes)[begin] = AnyByte();
        return;
      case 2:
        if (rest == 0) return;
        (*bytes)[begin] = static_cast<char>((*bytes)[begin] ^ (1 << Below(8)));
        return;
      case 3:
        bytes->erase(begin, 1 + Below(rest + 1));
        return;
      case 4:  // a part of it again
        bytes->insert(Below(bytes->size() + 1),
                      bytes->substr(begin, 1 + Below(rest + 1)));
        return;
      default: {  // a part of another one
        const std::string& other = corpus_[Below(corpus_.size())].bytes;
        const size_t from = Below(other.size() + 1);
        bytes->replace(begin, Below(rest + 1),
                       other.substr(from, 1 + Below(other.size() - from + 1)));
      }
    }
  }

  const std::vector<Input>& corpus_;
  std::mt19937_64 random_{kSeed};
  int count_ = 0;
};

// Of all files in the order of their names.
bool ReadInputs(const std::string& path, std::vector<Input>* inputs) {
  std::vector<std::string> files;
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
      files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  for (const std::string& file : files) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) {
      std::fprintf(stderr, "%s cannot be read\n", file.c_str());
      return false;
    }
    inputs->push_back({file, std::string(std::istreambuf_iterator<char>(stream),
                                         std::istreambuf_iterator<char>())});
  }
  return true;
}

int Main(const std::vector<std::string>& arguments) {
  int mutations = 0;
  std::vector<Input> corpus;
  for (const std::string& argument : arguments) {
    absl::string_view value = argument;
    if (absl::ConsumePrefix(&value, "--mutations=")) {
      if (absl::SimpleAtoi(value, &mutations) && mutations >= 0) continue;
    } else if (!absl::StartsWith(argument, "-")) {
      if (ReadInputs(argument, &corpus)) continue;
    }
    std::fprintf(stderr, "%s is of no use here\n", argument.c_str());
    return 2;
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "there is no input: name a file or a directory\n");
    return 2;
  }
  Watch();
  for (const Input& input : corpus) Run(input);
  Mutator mutator(corpus);
  for (int i = 0; i < mutations; ++i) Run(mutator.Next());
  std::printf("%zu files and %d mutations are well\n", corpus.size(),
              mutations);
  return 0;
}

}  // namespace
}  // namespace test
}  // namespace udpgate

int main(int argc, char** argv) {
  return udpgate::test::Main({argv + 1, argv + argc});
}
