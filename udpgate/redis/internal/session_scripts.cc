#include "udpgate/redis/internal/session_scripts.h"

namespace udpgate {
namespace redis {
namespace internal {

// `owner` returns the token and the gateway id of a record, or nil if it does
// not parse, see stored_session.h. `prolong` never shortens a life. `index`
// enters clients of one gateway.
#define UDPGATE_LUA_OWNER                            \
  "local function owner(r) "                         \
  "if not r then return nil end "                    \
  "local t, g = string.match(r, '^1 (%x+) (%S+) ') " \
  "if t and #t == 32 then return t, g end "          \
  "return nil end\n"
#define UDPGATE_LUA_PROLONG                       \
  "local function prolong(k, ms) "                \
  "if redis.call('PTTL', k) < tonumber(ms) then " \
  "redis.call('PEXPIRE', k, ms) end end\n"
#define UDPGATE_LUA_CLIENT \
  "local p = ARGV[1] "     \
  "local function client(k) return string.sub(k, #p + 1) end\n"
// What Write and Adopt do with those that they write, after the index has been
// written: a record that is in no index would not be found.
#define UDPGATE_LUA_PUT                                          \
  "local ms, id = ARGV[2], ARGV[3] "                             \
  "local function put(keys, values, was) "                       \
  "if #keys == 0 then return end "                               \
  "local c = {} "                                                \
  "for i = 1, #keys do c[i] = client(keys[i]) end "              \
  "redis.call('SADD', KEYS[2], unpack(c)) prolong(KEYS[2], ms) " \
  "redis.call('SADD', KEYS[1], id) prolong(KEYS[1], ms) "        \
  "for i = 1, #keys do "                                         \
  "redis.call('SET', keys[i], values[i], 'PX', ms) "             \
  "if was[i] and was[i] ~= id then "                             \
  "redis.pcall('SREM', p .. '@index:' .. was[i], c[i]) end "     \
  "end end\n"

const char kWriteScript[] =
    UDPGATE_LUA_OWNER UDPGATE_LUA_PROLONG UDPGATE_LUA_CLIENT UDPGATE_LUA_PUT
    R"(local n = #KEYS - 2
local old = redis.call('MGET', unpack(KEYS, 3))
local keys, values, was = {}, {}, {}
for i = 1, n do
  local _, g = owner(old[i])
  keys[i] = KEYS[i + 2] values[i] = ARGV[i + 3] was[i] = g or false
end
put(keys, values, was)
return string.rep('d', n))";

const char kRefreshScript[] =
    UDPGATE_LUA_OWNER UDPGATE_LUA_PROLONG UDPGATE_LUA_CLIENT
    R"(local old = redis.call('MGET', unpack(KEYS))
local out, members = {}, {}
for i = 1, #KEYS do
  local t, g = owner(old[i])
  if not t then out[i] = 'a'
  elseif t ~= ARGV[i + 2] then out[i] = 'o'
  else
    out[i] = 'd'
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
    if not members[g] then members[g] = {} end
    table.insert(members[g], client(KEYS[i]))
  end
end
for g, list in pairs(members) do
  local index = p .. '@index:' .. g
  redis.call('SADD', index, unpack(list)) prolong(index, ARGV[2])
  redis.call('SADD', p .. '@gateways', g) prolong(p .. '@gateways', ARGV[2])
end
return table.concat(out))";

const char kRemoveScript[] = UDPGATE_LUA_OWNER UDPGATE_LUA_CLIENT
    R"(local old = redis.call('MGET', unpack(KEYS))
local out = {}
for i = 1, #KEYS do
  local t, g = owner(old[i])
  if not t then out[i] = 'a'
  elseif t ~= ARGV[i + 1] then out[i] = 'o'
  else
    out[i] = 'd'
    redis.call('DEL', KEYS[i])
    redis.pcall('SREM', p .. '@index:' .. g, client(KEYS[i]))
  end
end
return table.concat(out))";

const char kAdoptScript[] =
    UDPGATE_LUA_OWNER UDPGATE_LUA_PROLONG UDPGATE_LUA_CLIENT UDPGATE_LUA_PUT
    R"(local old = redis.call('MGET', unpack(KEYS, 3))
local out, lives = {}, {}
local keys, values, was = {}, {}, {}
local function is_alive(g)
  if lives[g] == nil then
    lives[g] = redis.call('EXISTS', p .. '@lease:' .. g) == 1
  end
  return lives[g]
end
for i = 1, #KEYS - 2 do
  local from, unless, value =
    ARGV[3 * i + 1], ARGV[3 * i + 2], ARGV[3 * i + 3]
  local t, g = owner(old[i])
  local is_ours = t and t == owner(value)
  if not t then out[i] = 'a'
  elseif t ~= from and not is_ours then out[i] = 'o'
  elseif not is_ours and unless ~= '' and is_alive(unless) then out[i] = 'l'
  else
    out[i] = 'd'
    local n = #keys + 1
    keys[n] = KEYS[i + 2] values[n] = value was[n] = g
  end
end
put(keys, values, was)
return table.concat(out))";

const char kFindScript[] = UDPGATE_LUA_OWNER
    R"(local old = redis.call('MGET', unpack(KEYS))
local out, leases = {}, {}
for i = 1, #KEYS do
  local _, g = owner(old[i])
  if g and leases[g] == nil then
    leases[g] = redis.call('MGET', ARGV[1] .. '@lease:' .. g)[1] or ''
  end
  out[2 * i - 1] = string.sub(old[i] or '', 1, 512)
  out[2 * i] = string.sub(g and leases[g] or '', 1, 512)
end
return out)";

const char kListScript[] = UDPGATE_LUA_OWNER UDPGATE_LUA_CLIENT
    R"(local old = redis.call('MGET', unpack(KEYS, 2))
local out, gone = {}, {}
for i = 1, #KEYS - 1 do
  local t, g = owner(old[i])
  out[i] = string.sub(old[i] or '', 1, 512)
  if not old[i] or (t and g ~= ARGV[2]) then
    table.insert(gone, client(KEYS[i + 1]))
    out[i] = ''
  end
end
if #gone > 0 then redis.call('SREM', KEYS[1], unpack(gone)) end
if ARGV[3] == '1' then return out end
return #gone)";

const char kGatewaysScript[] =
    R"(local p, out = ARGV[1], {}
for i = 2, #ARGV do
  local g = ARGV[i]
  local lease = redis.call('MGET', p .. '@lease:' .. g)[1]
  out[i - 1] = string.sub(lease or '', 1, 512)
  if not lease and redis.call('EXISTS', p .. '@index:' .. g) == 0 then
    redis.call('SREM', KEYS[1], g)
    out[i - 1] = 'gone'
  end
end
return out)";

const char kRenewLeaseScript[] = UDPGATE_LUA_PROLONG
    R"(local was = redis.call('MGET', KEYS[1])[1]
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
prolong(KEYS[2], ARGV[4])
return string.sub(was or '', 1, 512))";

const char kEndLeaseScript[] =
    R"(local was = redis.call('MGET', KEYS[1])[1]
local out = 'a'
if was and string.sub(was, 1, 19) == '1 ' .. ARGV[1] .. ' ' then
  redis.call('DEL', KEYS[1])
  out = 'd'
elseif was then out = 'o' end
if out ~= 'o' and redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('SREM', KEYS[2], ARGV[2])
end
return out)";

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
