-- One process's exchange of latencies: publishes its answers and returns what
-- is new to it. All keys share a hash tag.
--   KEYS  meta, seen (the last batch of this process), then one list a window
--   ARGV  batch, known generation, known reset, fresh token, reset wanted,
--         life of a window and of meta in ms; then for each window its size, the
--         number of answers known, the number of new ones, and these
-- meta holds gen (a token that is lost with the data), reset (the token of the
-- last reset) and under "n:" and a window's key how many answers it has had.
local meta, seen = KEYS[1], KEYS[2]
local batch, known, reset_known, fresh = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local life, meta_life = ARGV[6], ARGV[7]
local gen = redis.call('HGET', meta, 'gen')
local reset = redis.call('HGET', meta, 'reset') or ''

if ARGV[5] == 'true' and reset ~= fresh then
  for _, field in ipairs(redis.call('HKEYS', meta)) do
    if string.sub(field, 1, 2) == 'n:' then
      redis.call('DEL', string.sub(field, 3))
    end
  end
  redis.call('DEL', meta)
  gen, reset, reset_known = fresh, fresh, fresh
  redis.call('HSET', meta, 'gen', gen, 'reset', reset)
elseif not gen then
  -- Nothing is here yet, or it was lost: the resets known so far still hold.
  gen, reset = fresh, reset_known
  redis.call('HSET', meta, 'gen', gen, 'reset', reset)
end

-- Answers from before a reset this process has not heard of are dropped, and so
-- is a batch that came before and whose reply was lost.
local fits = known == '' or reset_known == reset
local last = tonumber(redis.call('GET', seen) or '0')
local take = fits and batch > last

local reply = {gen, reset}
local at = 8
for i = 3, #KEYS do
  local key = KEYS[i]
  local size, version, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  local field = 'n:' .. key
  if take and count > 0 then
    redis.call('RPUSH', key, unpack(ARGV, at, at + count - 1))
    redis.call('LTRIM', key, '-' .. size, '-1')
    redis.call('PEXPIRE', key, life)
    redis.call('HINCRBY', meta, field, count)
  end
  at = at + count
  local n = tonumber(redis.call('HGET', meta, field) or '0')
  if gen ~= known or version > n then
    version = 0
  end
  local news = {}
  if n > version then
    news = redis.call('LRANGE', key, '-' .. (n - version), '-1')
  end
  reply[#reply + 1] = {n, redis.call('LLEN', key), news}
end
redis.call('SET', seen, batch, 'PX', meta_life)
redis.call('PEXPIRE', meta, meta_life)
return reply
