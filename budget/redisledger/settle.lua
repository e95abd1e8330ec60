-- Ends a reservation: what is held is given back and the actual cost charged.
-- An id is settled once, however often this is called.
--
-- KEYS  as for hold.lua
-- ARGV  1 epoch  2 now  3 id  4 actual  5 generation
--       6 '1' if it is too early for an earlier call's tombstone to have gone;
--       '2' if a data set that is lost may have counted an earlier call: what is
--       given back by it may be known, and is not given back again
--       7 the tombstone: S when settled, D when the id was never admitted
--       then for each budget: end of the window, when it was made as the
--       reservation saw it, least gross spent, least corrected
--
-- Replies: 'E epoch'; 'M stamp' in a cluster, where counts are not those that
-- the caller knows; 'S|N|L stamp generation' (settled, nothing new, too late to
-- know) and for each budget s c r e q.
local call, format = redis.call, string.format
local epoch, id, actual, gen = ARGV[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local budgets = (#ARGV - 7) / 4
local cluster = #KEYS == 1 + 2 * budgets
if cluster then
	local ok, info = pcall(call, 'INFO', 'server')
	local server = ok and string.match(info, 'run_id:(%w%w%w%w%w%w%w%w)')
	if server and not string.find(epoch, server, 1, true) then return 'E' end
else
	local current = call('GET', KEYS[#KEYS])
	if current ~= epoch then return 'E ' .. (current or '') end
end
local t = call('TIME')
local now = tonumber(ARGV[2]) or t[1] * 1000 + math.floor(t[2] / 1000)
local function text(n) return format('%d', n) end
local stamp = text(t[1] * 1000000 + t[2])
local held, charged = 'L' .. id, 'X' .. id
local function number(s)
	if not s then return 0 end
	local n = tonumber(s)
	if not n or n - n ~= 0 then error('CORRUPT count') end -- nan and inf among them
	return n
end

local function read(i)
	local a = KEYS[2 + 2 * i]
	local v = call('HMGET', a, 's', 'c', 'r', 'n', 'e', 'q', held, charged)
	local b = { a = a, z = KEYS[3 + 2 * i], ends = tonumber(ARGV[8 + 4 * i]),
		s = number(v[1]), c = number(v[2]), r = number(v[3]), n = v[4] and number(v[4]) or nil, e = v[5] or '', q = number(v[6]),
		held = number(v[7]), charged = 0, known = false, stale = false, floor = false }
	if b.n and b.n < gen then -- a reset since
		b.s, b.c, b.n = 0, 0, gen
		call('HSET', b.a, 's', 0, 'c', 0, 'n', text(gen))
	end
	if v[8] then
		local amount, of = string.match(v[8], '^(%d+)@(%d+)$')
		if number(of) == b.n then b.charged = number(amount) end
	end
	b.known = v[7] or v[8]
	b.stale = not b.known and b.e ~= '' and b.e == ARGV[9 + 4 * i] and ARGV[6] == '0'
	b.floor = b.n == nil or b.n == gen
	return b
end

-- make begins a budget's counts, as in hold.lua.
local function make(b)
	if b.n then return end
	b.n, b.e = gen, stamp
	local goes = text(b.ends + 90000000)
	call('HSET', b.a, 'n', text(gen), 'e', b.e)
	call('PEXPIREAT', b.a, goes)
	call('ZADD', b.z, '+inf', '')
	call('PEXPIREAT', b.z, goes)
end

-- charge adds to what is spent: to the gross, or to what is given back. Both
-- only grow, so that after a loss of data the greater one is the truer. Below
-- 2^53 a sum is exact in Lua, too.
local function charge(b, i)
	make(b)
	if b.floor then
		local s, c = tonumber(ARGV[10 + 4 * i]), tonumber(ARGV[11 + 4 * i])
		if s > b.s or c > b.c then
			b.s, b.c = math.max(s, b.s), math.max(c, b.c)
			call('HSET', b.a, 's', text(b.s), 'c', text(b.c))
		end
	end
	local cost = actual - b.charged
	if cost < 0 and ARGV[6] == '2' then cost = 0 end
	local field = cost < 0 and 'c' or 's'
	local sum = cost < 0 and b.c - cost or b.s + cost
	if cost < 0 then b.c = sum else b.s = sum end
	b.r = b.r - b.held
	if sum < 9007199254740992 and b.r < 9007199254740992 then
		call('HSET', b.a, field, text(sum), 'r', text(b.r))
	else
		call('HINCRBY', b.a, field, text(math.abs(cost)))
		call('HINCRBY', b.a, 'r', text(-b.held))
	end
	if not b.known then return end
	call('HDEL', b.a, held, charged)
	redis.pcall('ZREM', b.z, id) -- even if the key is of another type
	if b.held > 0 and string.sub(id, 1, 2) == 's:' then
		call('HINCRBY', b.a, 'q', text(-b.held))
		b.q = b.q - b.held
	end
end

local all, answer = {}, 'S'
for i = 0, budgets - 1 do
	local b, made = read(i), ARGV[9 + 4 * i]
	-- Without a cluster that is but one budget, evicted: all else has the epoch.
	if cluster and made ~= '' and made ~= b.e then return 'M ' .. stamp end
	all[i + 1] = b
end
if call('SET', KEYS[1], ARGV[7], 'NX', 'PX', 300000) then
	for i, b in ipairs(all) do
		if b.stale then answer = 'L' else charge(b, i - 1) end
	end
else
	answer = 'N'
end
for _, b in ipairs(all) do
	if b.n and b.n > gen then gen = b.n end
end
local reply = answer .. ' ' .. stamp .. ' ' .. text(gen)
for _, b in ipairs(all) do
	reply = reply .. format(' %d %d %d %s %d', b.s, b.c, b.r, b.e == '' and '-' or b.e, b.q)
end
return reply
