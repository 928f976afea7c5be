#include "testing/internal/ice/ice_agent.h"

#include <nice/agent.h>

#include <functional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace test {
namespace {

constexpr unsigned kComponent = 1;

// The thread that runs libnice; it ends with the process.
GMainContext* Context() {
  static GMainContext* const context = [] {
    GMainContext* const made = g_main_context_new();
    std::thread([made] {
      g_main_loop_run(g_main_loop_new(made, FALSE));
    }).detach();
    return made;
  }();
  return context;
}

SocketAddress FromNice(const NiceAddress& address) {
  char text[NICE_ADDRESS_STRING_LEN];
  nice_address_to_string(&address, text);
  absl::StatusOr<SocketAddress> parsed = SocketAddress::FromIpAndPort(
      text, static_cast<uint16_t>(nice_address_get_port(&address)));
  return parsed.ok() ? *parsed : SocketAddress();
}

// The caller owns the list.
GSList* ToNice(const IceDescription& description, unsigned stream) {
  GSList* list = nullptr;
  unsigned priority = 2122260223;
  for (const SocketAddress& address : description.candidates) {
    NiceCandidate* const candidate =
        nice_candidate_new(NICE_CANDIDATE_TYPE_HOST);
    candidate->transport = NICE_CANDIDATE_TRANSPORT_UDP;
    candidate->component_id = kComponent;
    candidate->stream_id = stream;
    candidate->priority = priority--;
    nice_address_set_from_string(&candidate->addr,
                                 address.IpToString().c_str());
    nice_address_set_port(&candidate->addr, address.port());
    g_strlcpy(candidate->foundation, absl::StrCat(priority).c_str(),
              NICE_CANDIDATE_MAX_FOUNDATION);
    list = g_slist_append(list, candidate);
  }
  return list;
}

void FreeCandidates(GSList* list) {
  g_slist_free_full(list, [](gpointer candidate) {
    nice_candidate_free(static_cast<NiceCandidate*>(candidate));
  });
}

}  // namespace

// What libnice calls, on its thread.
struct IceAgent::Callbacks {
  static void Gathered(NiceAgent*, guint, gpointer self) {
    auto* const agent = static_cast<IceAgent*>(self);
    internal::MutexLock lock(&agent->mutex_);
    agent->is_gathered_ = true;
  }
  static void StateChanged(NiceAgent*, guint, guint, guint state,
                           gpointer self) {
    auto* const agent = static_cast<IceAgent*>(self);
    internal::MutexLock lock(&agent->mutex_);
    agent->state_ = state;
  }
  static void Received(NiceAgent*, guint, guint, guint size, gchar* data,
                       gpointer self) {
    auto* const agent = static_cast<IceAgent*>(self);
    std::function<void(absl::string_view)> receive;
    {
      internal::MutexLock lock(&agent->mutex_);
      receive = agent->receive_;
      if (receive == nullptr) agent->received_.emplace_back(data, size);
    }
    if (receive != nullptr) receive(absl::string_view(data, size));
  }
};

absl::StatusOr<std::unique_ptr<IceAgent>> IceAgent::Create(
    const IceAgentOptions& options) {
  std::unique_ptr<IceAgent> made(new IceAgent());
  NiceAgent* const agent =
      nice_agent_new_full(Context(), NICE_COMPATIBILITY_RFC5245,
                          NICE_AGENT_OPTION_CONSENT_FRESHNESS);
  made->agent_ = agent;
  g_object_set(agent, "controlling-mode", options.is_controlling ? TRUE : FALSE,
               "ice-tcp", FALSE, "upnp", FALSE, nullptr);
  for (const std::string& text : options.addresses) {
    NiceAddress address;
    nice_address_init(&address);
    if (!nice_address_set_from_string(&address, text.c_str())) {
      return absl::InvalidArgumentError(text);
    }
    nice_agent_add_local_address(agent, &address);
  }
  made->stream_ = nice_agent_add_stream(agent, 1);
  g_signal_connect(agent, "candidate-gathering-done",
                   G_CALLBACK(Callbacks::Gathered), made.get());
  g_signal_connect(agent, "component-state-changed",
                   G_CALLBACK(Callbacks::StateChanged), made.get());
  nice_agent_attach_recv(agent, made->stream_, kComponent, Context(),
                         Callbacks::Received, made.get());
  if (!nice_agent_gather_candidates(agent, made->stream_)) {
    return absl::UnavailableError("no address of libnice can be bound");
  }
  if (!AwaitTrue([&made] {
        internal::MutexLock lock(&made->mutex_);
        return made->is_gathered_;
      })) {
    return absl::DeadlineExceededError("libnice gathers no candidates");
  }
  char* ufrag = nullptr;
  char* password = nullptr;
  nice_agent_get_local_credentials(agent, made->stream_, &ufrag, &password);
  made->description_.ufrag = ufrag;
  made->description_.password = password;
  g_free(ufrag);
  g_free(password);
  GSList* const candidates =
      nice_agent_get_local_candidates(agent, made->stream_, kComponent);
  for (GSList* item = candidates; item != nullptr; item = item->next) {
    made->description_.candidates.push_back(
        FromNice(static_cast<NiceCandidate*>(item->data)->addr));
  }
  FreeCandidates(candidates);
  return made;
}

IceAgent::~IceAgent() {
  if (agent_ == nullptr) return;
  auto* const agent = static_cast<NiceAgent*>(agent_);
  g_signal_handlers_disconnect_by_data(agent, this);
  nice_agent_attach_recv(agent, stream_, kComponent, nullptr, nullptr, nullptr);
  // A callback that has begun ends first: the next task on that thread.
  struct Barrier {
    internal::Mutex mutex;
    bool is_over ABSL_GUARDED_BY(mutex) = false;
  } barrier;
  g_main_context_invoke(
      Context(),
      [](gpointer data) -> gboolean {
        auto* const done = static_cast<Barrier*>(data);
        internal::MutexLock lock(&done->mutex);
        done->is_over = true;
        return G_SOURCE_REMOVE;
      },
      &barrier);
  AwaitTrue([&barrier] {
    internal::MutexLock lock(&barrier.mutex);
    return barrier.is_over;
  });
  nice_agent_remove_stream(agent, stream_);
  g_object_unref(agent);
}

absl::Status IceAgent::SetRemote(const IceDescription& remote) {
  auto* const agent = static_cast<NiceAgent*>(agent_);
  if (!nice_agent_set_remote_credentials(agent, stream_, remote.ufrag.c_str(),
                                         remote.password.c_str())) {
    return absl::InvalidArgumentError("libnice refuses the credentials");
  }
  if (remote.candidates.empty()) return absl::OkStatus();
  GSList* const candidates = ToNice(remote, stream_);
  const int count =
      nice_agent_set_remote_candidates(agent, stream_, kComponent, candidates);
  FreeCandidates(candidates);
  if (count <= 0) {
    return absl::InvalidArgumentError("libnice refuses the candidates");
  }
  return absl::OkStatus();
}

bool IceAgent::AwaitConnected(absl::Duration timeout) const {
  return AwaitTrue(
      [this] {
        internal::MutexLock lock(&mutex_);
        return state_ == NICE_COMPONENT_STATE_READY;
      },
      timeout);
}

std::string IceAgent::state() const {
  internal::MutexLock lock(&mutex_);
  return nice_component_state_to_string(
      static_cast<NiceComponentState>(state_));
}

absl::Status IceAgent::Send(absl::string_view payload) {
  const int sent =
      nice_agent_send(static_cast<NiceAgent*>(agent_), stream_, kComponent,
                      static_cast<guint>(payload.size()), payload.data());
  if (sent != static_cast<int>(payload.size())) {
    return absl::UnavailableError(
        absl::StrCat("libnice does not send; state ", state()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> IceAgent::Receive(absl::Duration timeout) {
  std::string payload;
  const bool is_there = AwaitTrue(
      [&] {
        internal::MutexLock lock(&mutex_);
        if (received_.empty()) return false;
        payload = std::move(received_.front());
        received_.pop_front();
        return true;
      },
      timeout);
  if (!is_there) {
    return absl::DeadlineExceededError(
        absl::StrCat("nothing came; state ", state()));
  }
  return payload;
}

absl::Status IceAgent::Ask(absl::string_view prefix, absl::Duration timeout) {
  // Begins as DTLS does (23, application data): media of WebRTC is nothing
  // else.
  const std::string question = absl::StrCat("\x17 question ", ++question_);
  const std::string answer = absl::StrCat(prefix, question);
  const absl::Time deadline = absl::Now() + timeout;
  std::string other = "nothing";
  while (absl::Now() < deadline) {
    const absl::Status sent = Send(question);
    if (!sent.ok()) return sent;
    const absl::Time next = absl::Now() + absl::Milliseconds(200);
    for (auto reply = Receive(next - absl::Now()); reply.ok();
         reply = Receive(next - absl::Now())) {
      if (*reply == answer) return absl::OkStatus();
      other = *reply;
    }
  }
  return absl::DeadlineExceededError(
      absl::StrCat("no \"", answer, "\" but \"", other, "\"; state ", state()));
}

void IceAgent::SetReceiver(std::function<void(absl::string_view)> receive) {
  internal::MutexLock lock(&mutex_);
  receive_ = std::move(receive);
}

}  // namespace test
}  // namespace udpgate
