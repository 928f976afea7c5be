#include "testing/internal/support/threads.h"

#include <dirent.h>

#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace udpgate {
namespace test {

std::multimap<std::string, pid_t> ThreadsOf(pid_t pid) {
  std::multimap<std::string, pid_t> threads;
  const std::string tasks = absl::StrCat("/proc/", pid, "/task/");
  DIR* const directory = ::opendir(tasks.c_str());
  if (directory == nullptr) return threads;
  while (const dirent* entry = ::readdir(directory)) {
    pid_t id;
    std::string name;
    std::ifstream comm(absl::StrCat(tasks, entry->d_name, "/comm"));
    if (absl::SimpleAtoi(entry->d_name, &id) && std::getline(comm, name)) {
      threads.emplace(name, id);
    }
  }
  ::closedir(directory);
  return threads;
}

}  // namespace test
}  // namespace udpgate
