#include "cli/settings/command_line.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "cli/settings/dotenv.h"
#include "cli/settings/fleet_settings.h"
#include "cli/settings/gateway_id.h"
#include "cli/settings/parsers.h"
#include "cli/settings/table.h"
#include "udpgate/redis/redis_option_ranges.h"
#include "udpgate/redis/redis_url.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {
namespace {

constexpr size_t kQuotedBytesMax = 80;

// A value for an error: one line, bounded, and without what may be a password:
// everything after the scheme of a URL, and everything before the @ of another
// address.
std::string Quoted(absl::string_view value) {
  const size_t scheme = value.find("://");
  const bool is_url = scheme != absl::string_view::npos;
  const size_t at = is_url ? absl::string_view::npos : value.rfind('@');
  const bool has_credentials = at != absl::string_view::npos;
  if (is_url) value = value.substr(0, scheme + 3);
  if (has_credentials) value = value.substr(at);
  const bool cut = value.size() > kQuotedBytesMax;
  return absl::StrCat("\"", has_credentials ? "***" : "",
                      absl::CHexEscape(value.substr(0, kQuotedBytesMax)),
                      cut ? "..." : "", is_url ? "***" : "", "\"");
}

// The Levenshtein distance of `a` and `b`.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// The setting that `name` is probably a misspelling of, or null.
const Setting* NearestSetting(absl::string_view name) {
  constexpr size_t kNameBytesMax = 64;
  constexpr size_t kDistanceMax = 2;
  if (name.size() > kNameBytesMax) return nullptr;
  const std::string upper = absl::AsciiStrToUpper(name);
  const Setting* nearest = nullptr;
  size_t nearest_distance = kDistanceMax + 1;
  for (const Setting& setting : SettingTable()) {
    const size_t distance = EditDistance(upper, setting.variable);
    if (distance < nearest_distance) {
      nearest = &setting;
      nearest_distance = distance;
    }
  }
  return nearest;
}

// A value and its source, for errors.
struct SourcedValue {
  std::string value;
  std::string source;
};
using ValuesByVariable = std::map<std::string, SourcedValue>;

absl::Status UnknownArgument(const std::string& argument) {
  // Never the part after "=": it may be a password.
  const std::string flag = argument.substr(0, argument.find('='));
  if (!absl::StartsWith(flag, "-")) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected argument ", Quoted(argument),
                     "; allowed: only flags, see --help"));
  }
  std::string variable = absl::AsciiStrToUpper(
      absl::StripPrefix(absl::StripPrefix(flag, "-"), "-"));
  variable = absl::StrReplaceAll(variable, {{"-", "_"}});
  const Setting* nearest = NearestSetting(variable);
  std::string hint = "see --help";
  if (nearest != nullptr && nearest->is_secret) {
    const std::string file = absl::StrCat(nearest->variable, "_FILE");
    hint = absl::StrCat(
        nearest->variable, " has no flag, set it in the environment",
        FindSetting(file) == nullptr ? " or in .env"
                                     : absl::StrCat(", in .env or by ", file));
  } else if (nearest != nullptr) {
    hint = absl::StrCat("did you mean ", nearest->flag(), "? See --help");
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown flag ", Quoted(flag), "; ", hint));
}

// The setting whose flag is the last argument, or null. Only the last flag can
// lack its value: any other takes the next argument.
const Setting* LastFlag(const std::vector<std::string>& arguments) {
  for (const Setting& setting : SettingTable()) {
    if (!arguments.empty() && arguments.back() == setting.flag()) {
      return &setting;
    }
  }
  return nullptr;
}

absl::Status MissingValue(const Setting& setting) {
  return absl::InvalidArgumentError(
      absl::StrCat(setting.variable, " (", setting.flag(),
                   "): the value is missing; allowed: ", setting.allowed));
}

absl::Status MissingTakeoverPath() {
  return absl::InvalidArgumentError(
      "--takeover: the value is missing; allowed: the TAKEOVER_SOCKET of the "
      "running gateway");
}

// Turns `--flag=` into two arguments: CLI11 treats an empty value as missing
// and would take the next argument instead.
std::vector<std::string> SplitEmptyValues(
    const std::vector<std::string>& arguments) {
  std::vector<std::string> result;
  for (const std::string& argument : arguments) {
    if (absl::StartsWith(argument, "--") &&
        argument.find('=') == argument.size() - 1) {
      result.push_back(argument.substr(0, argument.size() - 1));
      result.emplace_back();
    } else {
      result.push_back(argument);
    }
  }
  return result;
}

// Fills in the action and the values of the flags. The last one of several
// equal flags wins.
absl::Status ParseFlags(const std::vector<std::string>& arguments,
                        CommandLine* command_line, ValuesByVariable* values) {
  CLI::App app;
  app.set_help_flag("");
  app.allow_extras();
  bool help = false;
  bool version = false;
  bool check = false;
  app.add_flag("-h,--help", help)->disable_flag_override();
  app.add_flag("-V,--version", version)->disable_flag_override();
  app.add_flag("--check", check)->disable_flag_override();
  CLI::Option* const takeover =
      app.add_option("--takeover", command_line->takeover_path);
  takeover->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  takeover->expected(1);
  std::map<std::string, CLI::Option*> options;
  for (const Setting& setting : SettingTable()) {
    if (setting.is_secret) continue;
    CLI::Option* option = app.add_option(setting.flag());
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    option->expected(1);
    options[setting.variable] = option;
  }
  std::vector<std::string> reversed = SplitEmptyValues(arguments);
  std::reverse(reversed.begin(), reversed.end());
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::ArgumentMismatch&) {
    if (!arguments.empty() && arguments.back() == "--takeover") {
      return MissingTakeoverPath();
    }
    const Setting* setting = LastFlag(arguments);
    return setting != nullptr ? MissingValue(*setting)
                              : absl::InvalidArgumentError(
                                    "--check, --help and --version take no "
                                    "value");
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(absl::CHexEscape(error.what()), "; see --help"));
  }
  for (const std::string& extra : app.remaining()) {
    if (extra != "--") return UnknownArgument(extra);
  }
  if (takeover->count() > 0 && command_line->takeover_path.empty()) {
    return MissingTakeoverPath();
  }
  CommandLine::Action* const action = &command_line->action;
  if (check) *action = CommandLine::Action::kCheck;
  if (version) *action = CommandLine::Action::kVersion;
  if (help) *action = CommandLine::Action::kHelp;
  for (const auto& [variable, option] : options) {
    if (option->count() == 0 || option->results().back().empty()) continue;
    (*values)[variable] = {option->results().back(),
                           FindSetting(variable)->flag()};
  }
  return absl::OkStatus();
}

// Adds values of the environment and of `.env` that no flag gave.
absl::Status ReadEnvironment(const SettingSources& sources,
                             ValuesByVariable* values,
                             std::vector<std::string>* warnings) {
  const absl::StatusOr<std::vector<DotenvEntry>> entries =
      LoadDotenv(sources.dotenv_path);
  if (!entries.ok()) return entries.status();
  std::map<std::string, DotenvEntry> dotenv;
  for (const DotenvEntry& entry : *entries) {
    if (FindSetting(entry.name) != nullptr) {
      dotenv[entry.name] = entry;
    } else if (LooksLikeSetting(entry.name)) {
      const Setting* nearest = NearestSetting(entry.name);
      warnings->push_back(absl::StrCat(
          sources.dotenv_path, ":", entry.line_number, ": ",
          entry.name.substr(0, kQuotedBytesMax), ": unknown setting, ignored",
          nearest == nullptr
              ? "; see --help"
              : absl::StrCat("; did you mean ", nearest->variable, "?")));
    }
  }
  for (const Setting& setting : SettingTable()) {
    if (values->count(setting.variable) != 0) continue;
    const absl::optional<std::string> value =
        sources.environment(setting.variable);
    const auto entry = dotenv.find(setting.variable);
    if (value.has_value() && !value->empty()) {
      (*values)[setting.variable] = {*value, "environment"};
    } else if (entry != dotenv.end() && !entry->second.value.empty()) {
      (*values)[setting.variable] = {
          entry->second.value,
          absl::StrCat(sources.dotenv_path, ":", entry->second.line_number)};
    }
  }
  return absl::OkStatus();
}

// A secret that the setting `variable` does not give may be in the file that
// `variable`_FILE names.
struct SecretFile {
  absl::string_view variable;
  std::string Settings::*secret;
  std::string Settings::*path;
  absl::string_view noun;
  size_t bytes_max;
  bool (*is_allowed)(absl::string_view content);
  std::string allowed;
};

absl::Status ReadSecretFile(const SecretFile& file, Settings* settings) {
  const std::string& path = settings->*file.path;
  if (path.empty()) return absl::OkStatus();
  const auto failure = [&file](absl::string_view text) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.variable, "_FILE=", text));
  };
  if (!(settings->*file.secret).empty()) {
    return failure(absl::StrCat(Quoted(path), " and ", file.variable,
                                " are both set; allowed: one of them"));
  }
  // Room for the line break that is removed.
  absl::StatusOr<std::string> content = ReadSmallFile(path, file.bytes_max + 2);
  if (!content.ok()) {
    return failure(absl::StrCat(absl::CHexEscape(content.status().message()),
                                "; allowed: a readable file of ",
                                file.allowed));
  }
  absl::string_view secret = *content;
  if (absl::ConsumeSuffix(&secret, "\n")) {
    absl::ConsumeSuffix(&secret, "\r");
  }
  if (!file.is_allowed(secret)) {
    return failure(absl::StrCat(Quoted(path), " does not contain a valid ",
                                file.noun, "; allowed: a file of ",
                                file.allowed));
  }
  settings->*file.secret = std::string(secret);
  return absl::OkStatus();
}

bool IsRedisPassword(absl::string_view content) {
  return !content.empty() && content.size() <= redis_ranges::kPasswordBytesMax;
}

absl::Status ReadSecretFiles(Settings* settings) {
  const std::string redis_password =
      absl::StrCat("1 to ", redis_ranges::kPasswordBytesMax, " bytes");
  for (const SecretFile& file :
       {SecretFile{"REDIS_PASSWORD", &Settings::redis_password,
                   &Settings::redis_password_file, "password",
                   redis_ranges::kPasswordBytesMax, IsRedisPassword,
                   redis_password},
        SecretFile{
            "REDIS_SENTINEL_PASSWORD", &Settings::redis_sentinel_password,
            &Settings::redis_sentinel_password_file, "password",
            redis_ranges::kPasswordBytesMax, IsRedisPassword, redis_password},
        SecretFile{"ADMIN_TOKEN", &Settings::admin_token,
                   &Settings::admin_token_file, "token", kTokenBytesMax,
                   IsToken,
                   absl::StrCat(kTokenBytesMin, " to ", kTokenBytesMax,
                                " printable ASCII characters without "
                                "spaces")},
        // The secret has no setting of its own.
        SecretFile{
            "SESSION_FORWARD_SECRET", &Settings::session_forward_secret,
            &Settings::session_forward_secret_file, "secret",
            kForwardSecretBytesMax, IsForwardSecret,
            absl::StrCat(kForwardSecretBytesMin, " to ", kForwardSecretBytesMax,
                         " printable ASCII characters without "
                         "spaces")}}) {
    if (absl::Status status = ReadSecretFile(file, settings); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

// A gateway that is its own backend would forward each datagram in a loop.
absl::Status CheckForLoop(const Settings& settings) {
  const SocketAddress& listen = settings.proxy.listen_address;
  const absl::StatusOr<SocketAddress> backend =
      SocketAddress::Parse(settings.backend_address);
  // A host name is not an address, and port 0 is not known yet.
  if (!backend.ok() || backend->port() != listen.port()) {
    return absl::OkStatus();
  }
  const bool family_is_served = listen.is_ipv6() || backend->is_ipv4() ||
                                settings.listen_on_all_addresses;
  const bool is_own_loopback =
      listen.is_any() && backend->is_loopback() && family_is_served;
  if (*backend != listen && !is_own_loopback) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "BACKEND_ADDR=", Quoted(settings.backend_address),
      " is the gateway's own address (PROXY_ADDR=",
      settings.listen_on_all_addresses ? absl::StrCat(":", listen.port())
                                       : listen.ToString(),
      "); allowed: another address or another port"));
}

// The same for signaling: the gateway would ask itself for the backend.
absl::Status CheckForSignalingLoop(const Settings& settings) {
  const SocketAddress& listen = settings.nethernet_address;
  const absl::StatusOr<SocketAddress> backend =
      SocketAddress::Parse(settings.backend_address);
  if (!listen.is_valid() || !backend.ok()) return absl::OkStatus();
  const uint16_t port = settings.nethernet_backend_port != 0
                            ? settings.nethernet_backend_port
                            : backend->port();
  if (port != listen.port()) return absl::OkStatus();
  const bool is_own_loopback = listen.is_any() && backend->is_loopback();
  if (backend->WithPort(port) != listen && !is_own_loopback) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "NETHERNET_BACKEND_PORT: the signaling of BACKEND_ADDR=",
      Quoted(settings.backend_address), " would be the gateway's own, at port ",
      port, " (NETHERNET_ADDR); allowed: another port"));
}

// Rules between the settings of NetherNet.
absl::Status CheckNetherNet(const Settings& settings) {
  const bool has_certificate = !settings.nethernet_certificate_file.empty();
  if (has_certificate != !settings.nethernet_private_key_file.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "NETHERNET_", has_certificate ? "CERTIFICATE" : "PRIVATE_KEY",
        "_FILE is set without NETHERNET_",
        has_certificate ? "PRIVATE_KEY" : "CERTIFICATE",
        "_FILE; allowed: both or neither"));
  }
  const SocketAddress& address = settings.nethernet_address;
  if (address.is_valid() && address.port() != 0 &&
      address == settings.admin_address) {
    return absl::InvalidArgumentError(absl::StrCat(
        "NETHERNET_ADDR=", Quoted(address.ToString()),
        " is the address of ADMIN_ADDR; allowed: another address or another "
        "port"));
  }
  return CheckForSignalingLoop(settings);
}

// Each part of REDIS_URL for which no setting of its own is given.
void ApplyPartsOfRedisUrl(const ValuesByVariable& values, Settings* settings) {
  const absl::StatusOr<RedisUrl> url = RedisUrl::Parse(settings->redis_url);
  if (!url.ok()) return;  // not set
  const auto is_open = [&values](const char* variable) {
    return values.count(variable) == 0;
  };
  if (is_open("REDIS_ADDR")) settings->redis_address = url->address;
  if (is_open("REDIS_USERNAME")) settings->redis_username = url->username;
  if (is_open("REDIS_PASSWORD") && is_open("REDIS_PASSWORD_FILE")) {
    settings->redis_password = url->password;
  }
  if (is_open("REDIS_TLS")) settings->redis_tls = url->is_tls;
  if (is_open("REDIS_DB")) {
    settings->redis_database = url->database.value_or(settings->redis_database);
  }
}

// Rules between the settings of TLS to Redis.
absl::Status CheckRedisTls(const Settings& settings) {
  const bool has_certificate = !settings.redis_tls_certificate_file.empty();
  if (has_certificate != !settings.redis_tls_key_file.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("REDIS_TLS_", has_certificate ? "CERTIFICATE" : "KEY",
                     "_FILE is set without REDIS_TLS_",
                     has_certificate ? "KEY" : "CERTIFICATE",
                     "_FILE; allowed: both or neither"));
  }
  const bool has_files = has_certificate || !settings.redis_tls_ca_file.empty();
  if (has_files && !settings.redis_tls) {
    return absl::InvalidArgumentError(
        "REDIS_TLS is off, but TLS files are set (REDIS_TLS_..._FILE); "
        "allowed: on, or a REDIS_URL with rediss://");
  }
  if (settings.redis_tls && absl::StartsWith(settings.redis_address, "unix:")) {
    return absl::InvalidArgumentError(
        "REDIS_TLS is on, and Redis has a unix socket; allowed: off");
  }
  return absl::OkStatus();
}

// Rules between the settings of Sentinel and the others of Redis.
absl::Status CheckRedisSentinel(const ValuesByVariable& values,
                                const Settings& settings) {
  const bool has_sentinels = !settings.redis_sentinels.empty();
  const bool has_master = !settings.redis_sentinel_master.empty();
  if (has_sentinels != has_master) {
    return absl::InvalidArgumentError(absl::StrCat(
        has_sentinels ? "REDIS_SENTINELS" : "REDIS_SENTINEL_MASTER",
        " is set without ",
        has_sentinels ? "REDIS_SENTINEL_MASTER" : "REDIS_SENTINELS",
        "; allowed: both or neither"));
  }
  for (const char* variable :
       {"REDIS_SENTINEL_USERNAME", "REDIS_SENTINEL_PASSWORD",
        "REDIS_SENTINEL_PASSWORD_FILE"}) {
    if (!has_sentinels && values.count(variable) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(variable,
                       " is set without REDIS_SENTINELS; allowed: not set, or "
                       "with REDIS_SENTINELS"));
    }
  }
  if (!has_sentinels) return absl::OkStatus();
  // The default says nothing; .env.example has it.
  const auto address = values.find("REDIS_ADDR");
  if (address != values.end() &&
      address->second.value != FindSetting("REDIS_ADDR")->default_text) {
    return absl::InvalidArgumentError(
        "REDIS_ADDR and REDIS_SENTINELS are both set, and Sentinel knows "
        "the address of Redis; allowed: one of them");
  }
  if (absl::StartsWithIgnoreCase(settings.redis_url, "unix:")) {
    return absl::InvalidArgumentError(
        "REDIS_URL names a unix socket, and REDIS_SENTINELS is set; allowed: "
        "redis:// or rediss://, of which all but the address applies to the "
        "master");
  }
  return absl::OkStatus();
}

absl::Status ApplyAll(const ValuesByVariable& values, Settings* settings) {
  for (const Setting& setting : SettingTable()) {
    const auto found = values.find(setting.variable);
    if (found == values.end()) {
      if (!setting.default_text.empty()) {
        setting.apply(setting.default_text, settings);
      }
    } else if (!setting.apply(found->second.value, settings)) {
      return absl::InvalidArgumentError(absl::StrCat(
          setting.variable, "=",
          setting.is_secret ? "(hidden)" : Quoted(found->second.value), " (",
          found->second.source, "): allowed: ", setting.allowed));
    }
  }
  if (settings->gateway_id.empty()) settings->gateway_id = DefaultGatewayId();
  ApplyPartsOfRedisUrl(values, settings);
  if (absl::Status status = CheckRedisTls(*settings); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckRedisSentinel(values, *settings);
      !status.ok()) {
    return status;
  }
  for (const auto check : {CheckForLoop, CheckNetherNet, CheckFleetSettings}) {
    if (absl::Status status = check(*settings); !status.ok()) return status;
  }
  return ReadSecretFiles(settings);
}

}  // namespace

SettingSources SettingSources::OfProcess(int argc, const char* const* argv) {
  SettingSources sources;
  sources.arguments.assign(argv + std::min(argc, 1), argv + argc);
  sources.environment =
      [](const std::string& variable) -> absl::optional<std::string> {
    const char* value = std::getenv(variable.c_str());
    if (value == nullptr) return absl::nullopt;
    return std::string(value);
  };
  return sources;
}

absl::StatusOr<CommandLine> ParseCommandLine(const SettingSources& sources) {
  CommandLine command_line;
  ValuesByVariable values;
  if (absl::Status status =
          ParseFlags(sources.arguments, &command_line, &values);
      !status.ok()) {
    return status;
  }
  // These two work even if a setting is wrong.
  if (command_line.action == CommandLine::Action::kHelp ||
      command_line.action == CommandLine::Action::kVersion) {
    return command_line;
  }
  if (absl::Status status =
          ReadEnvironment(sources, &values, &command_line.warnings);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = ApplyAll(values, &command_line.settings);
      !status.ok()) {
    return status;
  }
  for (const auto& [variable, value] : values) {
    command_line.values[variable] = value.value;
  }
  return command_line;
}

bool LooksLikeSetting(absl::string_view name) {
  if (NearestSetting(name) != nullptr) return true;
  const std::string upper = absl::AsciiStrToUpper(name);
  if (absl::StartsWith(upper, "UDP_GATE_") ||
      absl::StartsWith(upper, "UDPGATE_")) {
    return true;
  }
  for (const Setting& setting : SettingTable()) {
    const size_t prefix_bytes = setting.variable.find('_');
    if (prefix_bytes != std::string::npos &&
        absl::StartsWith(upper, setting.variable.substr(0, prefix_bytes + 1))) {
      return true;
    }
  }
  return false;
}

}  // namespace cli
}  // namespace udpgate
