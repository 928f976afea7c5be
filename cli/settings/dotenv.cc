#include "cli/settings/dotenv.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace udpgate {
namespace cli {
namespace {

constexpr size_t kErrorNameBytesMax = 80;

bool IsName(absl::string_view text) {
  if (text.empty() || absl::ascii_isdigit(text[0])) return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(c) && c != '_') return false;
  }
  return true;
}

// What follows a closing quote.
bool IsBlankOrComment(absl::string_view rest) {
  const absl::string_view text = absl::StripLeadingAsciiWhitespace(rest);
  return text.empty() || (text[0] == '#' && text.size() < rest.size());
}

// An unquoted value: ends where white space and # begin a comment.
std::string ParseUnquoted(absl::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const bool after_space = i > 0 && absl::ascii_isspace(text[i - 1]);
    if (text[i] == '#' && after_space) {
      text = text.substr(0, i);
      break;
    }
  }
  return std::string(absl::StripAsciiWhitespace(text));
}

// `text` begins with the opening quote. False, with a reason, if it is wrong.
bool ParseQuoted(absl::string_view text, std::string* value,
                 absl::string_view* why) {
  const char quote = text[0];
  value->clear();
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == quote) {
      if (IsBlankOrComment(text.substr(i + 1))) return true;
      *why = "there is text after the closing quote";
      return false;
    }
    if (quote == '\'' || text[i] != '\\') {
      value->push_back(text[i]);
      continue;
    }
    static constexpr absl::string_view kEscapes = "nrt\\\"$";
    static constexpr absl::string_view kMeanings = "\n\r\t\\\"$";
    const size_t escape =
        ++i < text.size() ? kEscapes.find(text[i]) : absl::string_view::npos;
    if (escape == absl::string_view::npos) {
      *why = "only \\n \\r \\t \\\\ \\\" \\$ may follow a backslash";
      return false;
    }
    value->push_back(kMeanings[escape]);
  }
  *why = "the closing quote is missing";
  return false;
}

// False, with a reason, if the line is wrong. A line without an entry leaves
// `entry->name` empty.
bool ParseLine(absl::string_view line, DotenvEntry* entry,
               absl::string_view* why) {
  line = absl::StripAsciiWhitespace(line);
  if (line.empty() || line[0] == '#') return true;
  if (absl::StartsWith(line, "export") && line.size() > 6 &&
      absl::ascii_isspace(line[6])) {
    line = absl::StripLeadingAsciiWhitespace(line.substr(6));
  }
  const size_t equals = line.find('=');
  if (equals == absl::string_view::npos) {
    *why = "expected NAME=value";
    return false;
  }
  const absl::string_view name =
      absl::StripTrailingAsciiWhitespace(line.substr(0, equals));
  if (!IsName(name)) {
    *why =
        "a name consists of letters, digits and _, and does not begin with a "
        "digit";
    return false;
  }
  entry->name = std::string(name);
  const absl::string_view rest = line.substr(equals + 1);
  const absl::string_view value = absl::StripLeadingAsciiWhitespace(rest);
  if (!value.empty() && (value[0] == '"' || value[0] == '\'')) {
    return ParseQuoted(value, &entry->value, why);
  }
  entry->value = ParseUnquoted(rest);
  return true;
}

}  // namespace

absl::StatusOr<std::vector<DotenvEntry>> ParseDotenv(
    absl::string_view content, absl::string_view file_name) {
  if (content.size() > kDotenvBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(file_name, ": longer than ", kDotenvBytesMax, " bytes"));
  }
  absl::ConsumePrefix(&content, "\xef\xbb\xbf");  // a byte order mark
  std::vector<DotenvEntry> entries;
  int line_number = 0;
  for (const absl::string_view line : absl::StrSplit(content, '\n')) {
    DotenvEntry entry;
    entry.line_number = ++line_number;
    absl::string_view why;
    if (line.find('\0') != absl::string_view::npos) {
      why = "the line contains a zero byte";
    } else if (ParseLine(line, &entry, &why)) {
      if (!entry.name.empty()) entries.push_back(std::move(entry));
      continue;
    }
    // Bounded: an error is one line of a log.
    const std::string name = entry.name.substr(0, kErrorNameBytesMax);
    return absl::InvalidArgumentError(
        absl::StrCat(file_name, ":", line_number, ": ", name,
                     name.empty() ? "" : ": ", why));
  }
  return entries;
}

absl::StatusOr<std::vector<DotenvEntry>> LoadDotenv(const std::string& path) {
  const absl::StatusOr<std::string> content =
      ReadSmallFile(path, kDotenvBytesMax);
  if (absl::IsNotFound(content.status())) return std::vector<DotenvEntry>();
  if (!content.ok()) return content.status();
  return ParseDotenv(*content, path);
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path,
                                          size_t bytes_max) {
  const auto failure = [&path](int error) {
    const std::string text =
        absl::StrCat(path, ": cannot be read: ", std::strerror(error));
    return error == ENOENT ? absl::NotFoundError(text)
                           : absl::InvalidArgumentError(text);
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failure(errno);
  const absl::Cleanup close_file = [fd] { close(fd); };

  std::string content(bytes_max + 1, '\0');
  size_t size = 0;
  while (size < content.size()) {
    const ssize_t count = read(fd, &content[size], content.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failure(errno);
    if (count == 0) break;
    size += static_cast<size_t>(count);
  }
  if (size > bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": longer than ", bytes_max, " bytes"));
  }
  content.resize(size);
  return content;
}

}  // namespace cli
}  // namespace udpgate
