-- Says which data set this is, and who is there. The epoch is
-- generation:server:made:until - the time of the last reset, the server's run
-- id (a cluster's, of all its masters), when the epoch was made, and the time
-- until which the replicas that know more than this data set are given to bring
-- it back. Whoever comes first, also if it knows nothing, waits for them; only a
-- data set without an epoch cannot be told from a new one. It has no expiry: a
-- reset must outlive every replica's memory.
--
-- KEYS  1 the epoch  2 the replicas seen lately (sorted set)
--       3 the replicas that brought back what they know (hash)
--       4 budgets of which slices are wanted back (sorted set)
-- ARGV  1 now  2 replica  3 the epoch this replica knows, or ''
--       4 '1' if it has something to bring back  5 how long to wait for it, ms
--       6 'reset' begins a new generation, 'lost' a new epoch if that in 3 is
--       still the one
--       7 '1' if this replica has brought back all it knows into the epoch it
--       knows  8 how many replicas it knew of
--       9 '-', or the servers of a cluster, by the first eight letters of their
--       run ids, if the replica has just looked, or ''
--       10 ... budgets of which it wants the others' slices
--
-- Reply, in lines: epoch, now, replicas, wanted budgets
local now = tonumber(ARGV[1])
local t = redis.call('TIME')
if not now then now = t[1] * 1000 + math.floor(t[2] / 1000) end
local function text(n) return string.format('%.0f', n) end
local function split(epoch)
	local gen, server, made, till = string.match(epoch or '', '^(%d+):(%w*):(%d+):(%d+)$')
	if not gen then return nil end
	return { gen = tonumber(gen), server = server, made = made, till = tonumber(till) }
end

local stored = redis.call('GET', KEYS[1])
local current, known = split(stored), split(ARGV[3])
local server = ARGV[9]
if server == '-' then
	local ok, info = pcall(redis.call, 'INFO', 'server')
	server = ok and type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
else
	local strange = not current
	for id in string.gmatch(server, '%w%w%w%w%w%w%w%w') do
		strange = strange or not string.find(current.server, id, 1, true)
	end
	if not strange then server = current.server elseif server == '' and known then server = known.server end
end
local wait = (known or current) and now + tonumber(ARGV[5]) or 0
local lost = ARGV[6] == 'lost' and known and current and known.made == current.made
if not current or current.server ~= server or lost then
	local gen = math.max(current and current.gen or 0, known and known.gen or 0)
	current = { gen = gen, server = server, made = text(t[1] * 1000000 + t[2]), till = wait }
	redis.call('DEL', KEYS[3])
elseif known and ARGV[4] == '1' and (known.made ~= current.made or known.server ~= server) and now >= current.till then
	current.till = wait
	redis.call('DEL', KEYS[3])
end
if known and known.gen > current.gen then current.gen = known.gen end
if ARGV[6] == 'reset' then current.gen = math.max(current.gen + 1, now) end

redis.call('ZADD', KEYS[2], text(now), ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', text(now - 3000))
redis.call('PEXPIRE', KEYS[2], 10000)
if ARGV[7] == '1' and known and known.made == current.made and known.server == server and current.till > 0 then
	redis.call('HSET', KEYS[3], ARGV[2], ARGV[8])
	redis.call('PEXPIRE', KEYS[3], 60000)
	local need = 0
	for _, n in ipairs(redis.call('HVALS', KEYS[3])) do need = math.max(need, tonumber(n)) end
	if redis.call('HLEN', KEYS[3]) >= need then current.till = 0 end
end
if current.till > 0 and now >= current.till then current.till = 0 end

local epoch = text(current.gen) .. ':' .. current.server .. ':' .. current.made .. ':' .. text(current.till)
if epoch ~= stored then redis.call('SET', KEYS[1], epoch) end
for i = 10, #ARGV do redis.call('ZADD', KEYS[4], text(now), ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', text(now - 1000))
local reply = redis.call('ZRANGE', KEYS[4], 0, 99)
table.insert(reply, 1, text(redis.call('ZCARD', KEYS[2])))
table.insert(reply, 1, text(now))
table.insert(reply, 1, epoch)
return table.concat(reply, '\n')
