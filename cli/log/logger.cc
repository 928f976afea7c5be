#include "cli/log/logger.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/base_sink.h"
#include "spdlog/spdlog.h"

namespace udpgate {
namespace cli {
namespace {

// What follows a message that was cut, and room for time and severity.
constexpr absl::string_view kCutMark = "...";
constexpr size_t kTextBytesMax = PIPE_BUF - 96;

spdlog::level::level_enum ToLevel(LogSeverity severity) {
  switch (severity) {
    case LogSeverity::kDebug:
      return spdlog::level::debug;
    case LogSeverity::kInfo:
      return spdlog::level::info;
    case LogSeverity::kWarning:
      return spdlog::level::warn;
    case LogSeverity::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

// spdlog's own names differ ("warning").
class SeverityName final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    absl::string_view name = LogSeverityName(LogSeverity::kError);
    for (const LogSeverity severity :
         {LogSeverity::kDebug, LogSeverity::kInfo, LogSeverity::kWarning}) {
      if (ToLevel(severity) == message.level) name = LogSeverityName(severity);
    }
    out.append(name.data(), name.data() + name.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<SeverityName>();
  }
};

std::unique_ptr<spdlog::formatter> MakeFormatter(LogFormat format) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>(
      spdlog::pattern_time_type::utc, "\n");
  formatter->add_flag<SeverityName>('*');
  // In JSON the text brings the end of the object, see JsonText.
  formatter->set_pattern(
      format == LogFormat::kText
          ? "%Y-%m-%dT%H:%M:%S.%eZ %* %v"
          : R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","severity":"%*",%v)");
  return formatter;
}

// One line, whatever a Redis value or a client put into it.
std::string Printable(absl::string_view message) {
  std::string text;
  text.reserve(message.size());
  for (const char c : message) {
    if (absl::ascii_iscntrl(c)) {
      absl::StrAppendFormat(&text, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      text.push_back(c);
    }
  }
  return text;
}

std::string PlainText(absl::string_view message,
                      const std::vector<LogField>& fields) {
  std::string text;
  for (const LogField& field : fields) {
    absl::StrAppend(&text, " ", field.name, "=");
    std::visit([&text](const auto& value) { absl::StrAppend(&text, value); },
               field.value);
  }
  text = Printable(text);
  std::string head = Printable(message);
  if (head.size() + text.size() > kTextBytesMax) {
    head.resize(kTextBytesMax - std::min(text.size(), kTextBytesMax / 2) -
                kCutMark.size());
    absl::StrAppend(&head, kCutMark);
  }
  return head + text;
}

// The members behind time and severity, and the end of the object.
std::string JsonText(absl::string_view message,
                     const std::vector<LogField>& fields) {
  const auto dump = [&fields](const std::string& text) {
    nlohmann::ordered_json object = {{"message", text}};
    for (const LogField& field : fields) {
      std::visit([&](const auto& value) { object[field.name] = value; },
                 field.value);
    }
    // A client's bytes need be no UTF-8.
    return object
        .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
        .substr(1);
  };
  std::string head(message.substr(0, kTextBytesMax));
  std::string text = dump(head);
  // A byte may take six, and never less than one.
  while (text.size() > kTextBytesMax && !head.empty()) {
    const size_t excess = text.size() + kCutMark.size() - kTextBytesMax;
    head.resize(head.size() - std::min(head.size(), excess / 6 + 1));
    text = dump(absl::StrCat(head, kCutMark));
  }
  return text;
}

std::string Text(LogFormat format, absl::string_view message,
                 const std::vector<LogField>& fields) {
  return format == LogFormat::kText ? PlainText(message, fields)
                                    : JsonText(message, fields);
}

// Writes a line if the descriptor accepts it immediately, else counts it.
class NonBlockingSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  NonBlockingSink(LogFormat format, int fd)
      : spdlog::sinks::base_sink<std::mutex>(MakeFormatter(format)),
        format_(format),
        fd_(fd) {}

  int64_t dropped_lines() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return dropped_lines_;
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (unreported_lines_ > 0) {
      const std::string text = Text(
          format_,
          absl::StrCat(unreported_lines_, " log lines were dropped here"), {});
      spdlog::details::log_msg report(message.time, spdlog::source_loc{}, "",
                                      spdlog::level::warn, text);
      if (Write(report)) unreported_lines_ = 0;
    }
    if (!Write(message)) {
      ++dropped_lines_;
      ++unreported_lines_;
    }
  }
  void flush_() override {}

 private:
  bool Write(const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    // A pipe that is ready to be written has room for PIPE_BUF bytes, and a
    // line is no longer than that, so that the write neither blocks nor stops
    // half-way (poll(2), pipe(7)).
    pollfd ready{fd_, POLLOUT, 0};
    if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) return false;
    ssize_t written;
    do {
      written = write(fd_, line.data(), line.size());
    } while (written < 0 && errno == EINTR);
    return written == static_cast<ssize_t>(line.size());
  }

  const LogFormat format_;
  const int fd_;
  int64_t dropped_lines_ = 0;
  int64_t unreported_lines_ = 0;
};

}  // namespace

class Logger::Impl {
 public:
  Impl(LogSeverity least, LogFormat format, int fd)
      : format_(format),
        sink_(std::make_shared<NonBlockingSink>(format, fd)),
        logger_("", sink_) {
    logger_.set_level(ToLevel(least));
  }

  void Log(LogSeverity severity, absl::string_view message,
           const std::vector<LogField>& fields) {
    const spdlog::level::level_enum level = ToLevel(severity);
    if (!logger_.should_log(level)) return;
    logger_.log(level, spdlog::string_view_t(Text(format_, message, fields)));
  }

  void SetLevel(LogSeverity least) { logger_.set_level(ToLevel(least)); }

  int64_t dropped_lines() const { return sink_->dropped_lines(); }

 private:
  const LogFormat format_;
  const std::shared_ptr<NonBlockingSink> sink_;
  spdlog::logger logger_;
};

Logger::Logger(LogSeverity least, LogFormat format, int fd)
    : impl_(std::make_shared<Impl>(least, format, fd)) {}

Logger::~Logger() = default;

void Logger::Log(LogSeverity severity, absl::string_view message,
                 const std::vector<LogField>& fields) {
  impl_->Log(severity, message, fields);
}

void Logger::SetLevel(LogSeverity least) { impl_->SetLevel(least); }

LogSink Logger::Sink() const {
  return [impl = impl_](LogSeverity severity, absl::string_view message) {
    impl->Log(severity, message, {});
  };
}

int64_t Logger::dropped_lines() const { return impl_->dropped_lines(); }

class HeldLog::Impl {
 public:
  explicit Impl(LogSink sink) : sink_(std::move(sink)) {}

  void Log(LogSeverity severity, absl::string_view message) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (released_) {
      sink_(severity, message);
    } else if (lines_.size() < kLinesMax) {
      lines_.emplace_back(severity, std::string(message));
    }
  }

  void Release() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [severity, message] : lines_) sink_(severity, message);
    lines_.clear();
    released_ = true;
  }

 private:
  const LogSink sink_;
  std::mutex mutex_;  // guards what follows
  bool released_ = false;
  std::vector<std::pair<LogSeverity, std::string>> lines_;
};

HeldLog::HeldLog(LogSink sink)
    : impl_(std::make_shared<Impl>(std::move(sink))) {}

HeldLog::~HeldLog() = default;

LogSink HeldLog::Sink() const {
  return [impl = impl_](LogSeverity severity, absl::string_view message) {
    impl->Log(severity, message);
  };
}

void HeldLog::Release() { impl_->Release(); }

}  // namespace cli
}  // namespace udpgate
