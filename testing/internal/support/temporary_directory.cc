#include "testing/internal/support/temporary_directory.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace test {
namespace {

void RemoveTree(const std::string& path) {
  if (DIR* directory = ::opendir(path.c_str())) {
    while (const dirent* entry = ::readdir(directory)) {
      const absl::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      const std::string child = absl::StrCat(path, "/", name);
      if (entry->d_type == DT_DIR) {
        RemoveTree(child);
      } else {
        ::unlink(child.c_str());
      }
    }
    ::closedir(directory);
  }
  ::rmdir(path.c_str());
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() : path_("/tmp/udpgate.XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) {
    std::perror("mkdtemp");
    std::abort();
  }
}

TemporaryDirectory::~TemporaryDirectory() { RemoveTree(path_); }

std::string TemporaryDirectory::WriteFile(absl::string_view name,
                                          absl::string_view content) {
  const std::string path = absl::StrCat(path_, "/", name);
  std::ofstream file(path, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  return path;
}

}  // namespace test
}  // namespace udpgate
