// `.env` files, and the settings in them.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "cli/settings/dotenv.h"
#include "cli/settings/table.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/redis/redis_options.h"

namespace udpgate {
namespace test {
namespace {

using cli::DotenvEntry;

// The entry as anybody may write it, in double quotes.
std::string Line(const DotenvEntry& entry) {
  return absl::StrCat(entry.name, "=\"",
                      absl::StrReplaceAll(entry.value, {{"\\", "\\\\"},
                                                        {"\"", "\\\""},
                                                        {"\n", "\\n"},
                                                        {"\r", "\\r"},
                                                        {"\t", "\\t"},
                                                        {"$", "\\$"}}),
                      "\"\n");
}

void RequireIsSound(const DotenvEntry& entry) {
  Require(!entry.name.empty() && !absl::ascii_isdigit(entry.name[0]),
          "a name begins with no digit");
  for (const char c : entry.name) {
    Require(absl::ascii_isalnum(c) || c == '_',
            "a name has letters, digits and _ alone");
  }
  Require(!absl::StrContains(entry.value, absl::string_view("\0", 1)),
          "a value has no zero byte");
}

void RequireRoundTrip(const std::vector<DotenvEntry>& entries) {
  std::string printed;
  for (const DotenvEntry& entry : entries) {
    absl::StrAppend(&printed, Line(entry));
  }
  // Quotes and escapes may make it longer than a file may be.
  if (printed.size() > cli::kDotenvBytesMax) return;
  const absl::StatusOr<std::vector<DotenvEntry>> again =
      cli::ParseDotenv(printed, "printed");
  Require(again.ok() && again->size() == entries.size(),
          "entries print to what parses");
  for (size_t i = 0; i < entries.size(); ++i) {
    Require((*again)[i].name == entries[i].name &&
                (*again)[i].value == entries[i].value,
            "an entry prints to what parses to the same");
  }
}

// What the library refuses, it refuses in a way that lets the program name the
// setting.
void RequireNamesSetting(const absl::Status& status,
                         const cli::Setting& setting) {
  Require(status.ok() || absl::StartsWith(cli::NameSetting(status).message(),
                                          setting.variable),
          "an error names the setting");
}

void TrySetting(const DotenvEntry& entry) {
  for (const cli::Setting& setting : cli::SettingTable()) {
    if (setting.variable != entry.name || entry.value.empty()) continue;
    cli::Settings settings;
    if (!setting.apply(entry.value, &settings)) return;
    RequireNamesSetting(settings.proxy.Validate(), setting);
    RedisOptions redis;
    redis.username = settings.redis_username;
    redis.password = settings.redis_password;
    redis.database = settings.redis_database;
    if (setting.variable == "REDIS_ADDR") {
      redis.address = settings.redis_address;
    } else if (setting.variable == "REDIS_BACKEND_KEY") {
      redis.backend_key = settings.redis_backend_key;
    } else if (setting.variable == "REDIS_DISCONNECT_CHANNEL") {
      redis.disconnect_channel = settings.redis_disconnect_channel;
    } else if (setting.variable == "REDIS_DISCONNECT_STREAM") {
      redis.disconnect_stream = settings.redis_disconnect_stream;
    }
    RequireNamesSetting(redis.Validate(), setting);
  }
}

void Try(absl::string_view content) {
  const absl::StatusOr<std::vector<DotenvEntry>> entries =
      cli::ParseDotenv(content, "file");
  if (!entries.ok()) {
    RequireOneShortLine(entries.status());
    Require(absl::StartsWith(entries.status().message(), "file:"),
            "an error begins with the place");
    return;
  }
  Require(content.size() <= cli::kDotenvBytesMax, "a file is bounded");
  const auto line_count = 1 + std::count(content.begin(), content.end(), '\n');
  int previous_line_number = 0;
  for (const DotenvEntry& entry : *entries) {
    RequireIsSound(entry);
    Require(entry.line_number > previous_line_number &&
                entry.line_number <= line_count,
            "each entry has a line of its own");
    previous_line_number = entry.line_number;
    TrySetting(entry);
  }
  RequireRoundTrip(*entries);
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::Try(udpgate::test::AsText(data, size));
  return 0;
}
