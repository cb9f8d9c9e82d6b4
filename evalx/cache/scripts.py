"""What must happen in Redis at once, as Lua. Each script is one round trip.

A *lease* is three fields of a hash: ``holder`` (a token; empty when it was given back), ``epoch`` (the fencing token:
one more for every holder, never less) and ``until`` (milliseconds of Redis's own clock, so that those of workers do not
matter). Whoever's epoch is not the latest one has been overtaken, whether or not anybody holds the lease now.

Scripts name keys that they find out themselves, so all keys must be on one Redis server, not on a cluster's shards.
"""

from __future__ import annotations

_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

#: Claim an id. KEYS: claim, done, in-flight set of the claimer, deaths.
#: ARGV: content, token, lease ms, claim ttl s, attempts known here, id, prefix of life keys, prefix of in-flight sets,
#: ms for which deaths count.
#: Answers: {'conflict'} | {'done', epoch, value} | {'busy', ms left} | {'taken', epoch, deaths, lone, unexplained}.
TAKE_CLAIM = (
    _NOW
    + """
local known = redis.call('HMGET', KEYS[1], 'content', 'epoch', 'holder', 'until', 'deaths', 'lone')
if known[1] and known[1] ~= ARGV[1] then return {'conflict'} end
local holder, deaths, lone = known[3] or '', tonumber(known[5] or 0), tonumber(known[6] or 0)
local epoch = math.max(tonumber(known[2] or 0), tonumber(ARGV[5])) + 1
local value = redis.call('GET', KEYS[2])
if value then
  redis.call('HSET', KEYS[1], 'content', ARGV[1], 'epoch', epoch)
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  return {'done', epoch, value}
end
if holder == ARGV[2] then
  epoch = tonumber(known[2])
elseif holder ~= '' then
  if tonumber(known[4]) > now then return {'busy', tonumber(known[4]) - now} end
  local incarnation = string.match(holder, '^[^#]+')
  -- One that lives has renewed its life a third of a lease ago at most; what was renewed with the lease ends with it.
  if redis.call('PTTL', ARGV[7] .. incarnation) <= ARGV[3] / 3 then
    deaths = deaths + 1
    if redis.call('SCARD', ARGV[8] .. incarnation) <= 1 then
      lone = lone + 1
    else
      redis.call('ZADD', KEYS[4], 'NX', now, incarnation)
      redis.call('PEXPIRE', KEYS[4], ARGV[9])
    end
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[4], 0, now - ARGV[9])
local unexplained = math.max(0, redis.call('ZCARD', KEYS[4]) - (deaths - lone))
redis.call('HSET', KEYS[1], 'content', ARGV[1], 'epoch', epoch, 'holder', ARGV[2], 'until', now + ARGV[3],
  'deaths', deaths, 'lone', lone)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('SADD', KEYS[3], ARGV[6])
redis.call('EXPIRE', KEYS[3], ARGV[4])
return {'taken', epoch, deaths, lone, unexplained}
"""
)

#: End a claim. KEYS: claim, done, in-flight set. ARGV: token, epoch, id, value or '', its ttl s, '1' = answered.
#: Answers 1, or 0 when somebody has overtaken the claim: then nothing of it is stored. Once more does nothing.
END_CLAIM = """
redis.call('SREM', KEYS[3], ARGV[3])
local known = redis.call('HMGET', KEYS[1], 'holder', 'epoch')
if known[1] == '' and known[2] == ARGV[2] then return 1 end
if known[2] and known[1] ~= ARGV[1] then return 0 end
if ARGV[4] ~= '' then redis.call('SET', KEYS[2], ARGV[4], 'EX', ARGV[5]) end
if known[2] then
  redis.call('HSET', KEYS[1], 'holder', '', 'until', 0)
  if ARGV[6] == '1' then redis.call('HDEL', KEYS[1], 'deaths', 'lone') end
end
redis.call('PUBLISH', KEYS[1], '')
return 1
"""

#: Answer ids whose answer is known, be it the id's own or its batch's; others are left as they are. KEYS: for each id
#: claim, done, result. ARGV: claim ttl s, done ttl s, then for each id its content.
#: Answers for each id {epoch, value, '1' = the id's own} or nothing. An answer to a batch becomes the id's own, so that
#: the id is answered the same the next time. A key that holds something else than it should counts as missing.
ANSWER_KNOWN = """
local function text(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value
end
local answers = {}
for i = 1, #KEYS / 3 do
  local claim, done, content = KEYS[3 * i - 2], KEYS[3 * i - 1], ARGV[i + 2]
  local known = redis.pcall('HMGET', claim, 'content', 'epoch', 'holder')
  answers[i] = false
  if not known.err and (not known[1] or known[1] == content) and (known[3] or '') == '' then
    local own = text(done)
    local value = own or text(KEYS[3 * i])
    if value then
      local epoch = tonumber(known[2] or 0) + 1
      redis.call('HSET', claim, 'content', content, 'epoch', epoch)
      redis.call('EXPIRE', claim, ARGV[1])
      if not own then redis.call('SET', done, value, 'EX', ARGV[2]) end
      answers[i] = {epoch, value, own and '1' or '0'}
    end
  end
end
return answers
"""

#: Lead the judging of a batch. KEYS: result, lease, handover. ARGV: token, lease ms, fence ttl s, '1' = has waited.
#: Answers: {'known', value} | {'busy', ms left} | {'taken', epoch}.
TAKE_LEAD = (
    _NOW
    + """
local value = redis.call('GET', KEYS[1])
if not value and ARGV[4] == '1' then value = redis.call('GET', KEYS[3]) end
if value then return {'known', value} end
local known = redis.call('HMGET', KEYS[2], 'holder', 'epoch', 'until')
local holder, epoch = known[1] or '', tonumber(known[2] or 0)
if holder ~= ARGV[1] then
  if holder ~= '' and tonumber(known[3]) > now then return {'busy', tonumber(known[3]) - now} end
  epoch = epoch + 1
end
redis.call('HSET', KEYS[2], 'holder', ARGV[1], 'epoch', epoch, 'until', now + ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return {'taken', epoch}
"""
)

#: End the lead. KEYS: result, lease, handover. ARGV: token, value or '', result ttl s or '0' = do not store, handover
#: ttl ms, epoch. Answers 1, or 0 when somebody has overtaken the lead: then nothing is stored. Once more does nothing.
END_LEAD = """
local known = redis.call('HMGET', KEYS[2], 'holder', 'epoch')
if known[1] == '' and known[2] == ARGV[5] then return 1 end
if known[2] and known[1] ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then
  if ARGV[3] == '0' then
    redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[4])
  elseif known[2] then
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
  else
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3], 'NX')
  end
end
if known[2] then redis.call('HSET', KEYS[2], 'holder', '', 'until', 0) end
redis.call('PUBLISH', KEYS[2], '')
return 1
"""

#: Renew leases, and tell that this process lives. KEYS: life, leases. ARGV: lease ms, then for each lease its token,
#: epoch and ttl s. Answers for each lease 1, or 0 when it was overtaken. A Redis that has lost a lease gets it back.
RENEW = (
    _NOW
    + """
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
local kept = {}
for i = 2, #KEYS do
  local token, epoch, ttl = ARGV[3 * i - 4], ARGV[3 * i - 3], ARGV[3 * i - 2]
  local known = redis.call('HMGET', KEYS[i], 'holder', 'epoch')
  if not known[2] then
    redis.call('HSET', KEYS[i], 'holder', token, 'epoch', epoch, 'until', now + ARGV[1])
    redis.call('EXPIRE', KEYS[i], ttl)
  elseif known[1] == token then
    redis.call('HSET', KEYS[i], 'until', now + ARGV[1])
  end
  kept[i - 1] = (not known[2] or known[1] == token) and 1 or 0
end
return kept
"""
)
