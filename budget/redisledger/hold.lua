-- Holds money for one id in all of its budgets, or in none. With a target of 0
-- it only reads.
--
-- KEYS  1        the id's tombstone
--       2, 3 ... for each budget: its counts (hash) and its leases (sorted set)
--       last     the epoch; not in a cluster, where it is in another slot
-- ARGV  1 epoch; in a cluster, the servers that it speaks of
--       2 now ('' for the server's)  3 deadline  4 id
--       5 target: what is to be held in all  6 lease, ms  7 generation
--       8 '1' for a reservation: the windows must hold now, and a denial is
--       remembered unless it is for slices only; '2' if a denial is not the last
--       word; '3' if it is in any case; '0' for an extension; 't' to give back
--       what is held beyond the target; 'b' to bring back what Redis has lost,
--       whatever the limit and the deadline, with its lease begun anew
--       then for each budget: limit ('' if soft), start and end of the window,
--       least gross spent, least corrected, when it was made as far as the
--       caller knows, or ''
--
-- Counts: s gross spent, c what was charged too much and given back (both only
-- grow), r reserved, n generation, e when it was made, f no lease ends before,
-- x leases that ran out, L<id> held, X<id> charged because the lease ran out,
-- as amount@generation, q reserved as slices, whose ids begin with s:
--
-- Replies: 'E epoch'; 'W stamp' past the deadline or out of the window;
-- 'M stamp' where counts are not those that the caller knows;
-- 'A|D|Q|C stamp generation' (admitted, denied, denied but not if slices were
-- given back, closed) and for each budget s c r e q. The stamp is the server's
-- time in microseconds: it tells which of two replies is newer.
local call, format = redis.call, string.format
local epoch, id, target, gen, mode = ARGV[1], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[7]), ARGV[8]
local budgets = (#ARGV - 8) / 6
local tomb
if #KEYS == 2 + 2 * budgets then
	local got = call('MGET', KEYS[#KEYS], KEYS[1])
	if got[1] ~= epoch then return 'E ' .. (got[1] or '') end
	tomb = got[2]
else
	local ok, info = pcall(call, 'INFO', 'server')
	local server = ok and string.match(info, 'run_id:(%w%w%w%w%w%w%w%w)')
	if server and not string.find(epoch, server, 1, true) then return 'E' end
	tomb = call('GET', KEYS[1])
end
local t = call('TIME')
local now = tonumber(ARGV[2]) or t[1] * 1000 + math.floor(t[2] / 1000)
local function text(n) return format('%d', n) end
local stamp = text(t[1] * 1000000 + t[2])
local slice = string.sub(id, 1, 2) == 's:'
local function number(s)
	if not s then return 0 end
	local n = tonumber(s)
	if not n or n - n ~= 0 then error('CORRUPT count') end -- nan and inf among them
	return n
end
if now > tonumber(ARGV[3]) and mode ~= 'b' then return 'W ' .. stamp end
if mode == '1' or mode == '2' or mode == '3' then
	for i = 0, budgets - 1 do
		if now < tonumber(ARGV[10 + 6 * i]) or now >= tonumber(ARGV[11 + 6 * i]) then return 'W ' .. stamp end
	end
end

-- reap charges leases that ran out: a few of each budget for a reservation,
-- which is in a hurry, and many in all for who only looks. One that ran out
-- before the counts were reset was charged to what the reset forgave. While
-- replicas bring back what a data set has lost, nothing is charged: see read.
local few = 512
local function reap(a, z, n)
	if target > 0 then few = 16 end
	local dead = call('ZRANGEBYSCORE', z, '-inf', text(now), 'WITHSCORES', 'LIMIT', 0, few)
	few = few - #dead / 2
	for i = 1, #dead, 2 do
		local held = number(call('HGET', a, 'L' .. dead[i]))
		if held > 0 then
			if tonumber(dead[i + 1]) >= n then
				local charged, of = string.match(call('HGET', a, 'X' .. dead[i]) or '', '^(%d+)@(%d+)$')
				local sum = held
				if number(of) == n then sum = sum + number(charged) end
				call('HSET', a, 'X' .. dead[i], text(sum) .. '@' .. text(n))
				call('HINCRBY', a, 's', text(held))
			else
				call('HSET', a, 'X' .. dead[i], text(held) .. '@0')
			end
			call('HDEL', a, 'L' .. dead[i])
			call('HINCRBY', a, 'r', text(-held))
			call('HINCRBY', a, 'x', 1)
			if string.sub(dead[i], 1, 2) == 's:' then call('HINCRBY', a, 'q', text(-held)) end
		end
		call('ZREM', z, dead[i])
	end
	local next = call('ZRANGE', z, 0, 0, 'WITHSCORES')
	if next[1] and next[1] ~= '' then call('HSET', a, 'f', next[2]) else call('HDEL', a, 'f') end
end

-- make begins a budget's counts. The member without a name keeps the leases'
-- key, and with it the time at which it goes, when there are none.
local function make(b)
	if b.n then return end
	b.n, b.e = gen, stamp
	local goes = text(b.ends + 90000000)
	call('HSET', b.a, 'n', text(gen), 'e', b.e)
	call('PEXPIREAT', b.a, goes)
	call('ZADD', b.z, '+inf', '')
	call('PEXPIREAT', b.z, goes)
end

local held, charged = 'L' .. id, 'X' .. id
local function counts(a)
	return call('HMGET', a, 's', 'c', 'r', 'n', 'e', 'q', 'f', held, charged)
end

local function read(i)
	local a, z = KEYS[2 + 2 * i], KEYS[3 + 2 * i]
	local v = counts(a)
	local n = v[4] and number(v[4]) or nil
	if n and n < gen then
		call('HSET', a, 's', 0, 'c', 0, 'n', text(gen))
		n, v[1], v[2] = gen, nil, nil
	end
	local b = { a = a, z = z, limit = ARGV[9 + 6 * i], ends = tonumber(ARGV[11 + 6 * i]), n = n, charged = 0, extra = 0,
		s = number(v[1]), c = number(v[2]), e = v[5] or '' }
	-- What is known to be spent comes before any charge: a charge that came
	-- first would vanish in it.
	if b.n == nil or b.n == gen then
		local s, c = tonumber(ARGV[12 + 6 * i]), tonumber(ARGV[13 + 6 * i])
		if s > b.s then make(b); b.s = s; call('HSET', b.a, 's', text(s)) end
		if c > b.c then make(b); b.c = c; call('HSET', b.a, 'c', text(c)) end
	end
	if v[7] and now >= number(v[7]) and mode ~= 'b' and mode ~= 't' then
		reap(a, z, b.n or gen)
		v = counts(a)
		b.s = number(v[1])
	end
	b.r, b.q, b.first, b.held = number(v[3]), number(v[6]), v[7] and number(v[7]), number(v[8])
	if v[9] then
		local amount, of = string.match(v[9], '^(%d+)@(%d+)$')
		if b.n and number(of) == b.n then b.charged = number(amount) end
	end
	return b
end

-- trim gives back what is held beyond the target.
local function trim(b)
	local beyond = math.min(b.held, b.held + b.charged - target)
	if beyond <= 0 then return end
	b.r, b.held = b.r - beyond, b.held - beyond
	call('HINCRBY', b.a, 'r', text(-beyond))
	if b.held > 0 then
		call('HSET', b.a, held, text(b.held))
	else
		call('HDEL', b.a, held)
		redis.pcall('ZREM', b.z, id) -- even if the key is of another type
	end
	if slice then
		call('HINCRBY', b.a, 'q', text(-beyond))
		b.q = b.q - beyond
	end
end

-- hold reserves what is missing. Below 2^53 a sum is exact in Lua, too.
local ends = now + tonumber(ARGV[6])
local function hold(b)
	b.r, b.held = b.r + b.extra, b.held + b.extra
	local first = b.first
	if not first or ends < first then first = ends end
	if b.r < 9007199254740992 then
		call('HSET', b.a, 'r', text(b.r), held, text(b.held), 'f', text(first))
	else
		call('HINCRBY', b.a, 'r', text(b.extra))
		call('HSET', b.a, held, text(b.held), 'f', text(first))
	end
	if slice then
		call('HINCRBY', b.a, 'q', text(b.extra))
		b.q = b.q + b.extra
	end
end

local all, answer, known, missing = {}, 'A', false, false
for i = 0, budgets - 1 do
	local b = read(i)
	local made = ARGV[14 + 6 * i]
	missing = missing or made ~= '' and made ~= b.e
	if mode == 't' then trim(b) end
	b.extra = mode == 't' and 0 or math.max(0, target - b.held - b.charged)
	known = known or b.held + b.charged > 0
	if b.limit ~= '' and mode ~= 'b' and b.extra > 0 then
		local beyond = b.s - b.c + b.r + b.extra - tonumber(b.limit)
		if beyond > b.q then
			answer = 'D'
		elseif beyond > 0 and answer == 'A' then
			answer = 'Q'
		end
	end
	all[i + 1] = b
	if b.n and b.n > gen then gen = b.n end
end
if missing and target > 0 and mode ~= 'b' and mode ~= 't' then return 'M ' .. stamp end
if target > 0 then
	if tomb == 'S' then answer = 'C' end
	if tomb == 'D' or answer == 'Q' and (mode == '2' or mode == '3') then answer = 'D' end
	if answer == 'D' and not known and (mode == '1' or mode == '3') then call('SET', KEYS[1], 'D', 'PX', 30000) end
end
-- What can fail, on a key of another type, comes before all that counts.
for _, b in ipairs(all) do
	if answer == 'A' and b.extra > 0 or mode == 'b' and b.held > 0 then
		make(b)
		call('ZADD', b.z, text(ends), id)
	end
end
local reply = answer .. ' ' .. stamp .. ' ' .. text(gen)
for _, b in ipairs(all) do
	if answer == 'A' and b.extra > 0 then hold(b) end
	reply = reply .. format(' %d %d %d %s %d', b.s, b.c, b.r, b.e == '' and '-' or b.e, b.q)
end
return reply
