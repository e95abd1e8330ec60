-- Ends a reservation: what is held is given back and the actual cost charged.
-- An id is settled once, however often this is called.
--
-- KEYS  as for hold.lua
-- ARGV  1 epoch  2 now  3 id  4 actual  5 generation
--       6 '1' if it is too early for an earlier call's tombstone to have gone
--       7 the tombstone: S when settled, D when the id was never admitted
--       then for each budget: end of the window, when it was made as the
--       reservation saw it, least gross spent, least corrected
--
-- Replies: 'E epoch', or 'S|N|L stamp generation' (settled, nothing new, too late
-- to know) and for each budget s c r e q.
local epoch, id, actual, gen = ARGV[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local budgets = (#ARGV - 7) / 4
if epoch ~= '' then
	local current = redis.call('GET', KEYS[#KEYS])
	if current ~= epoch then return 'E ' .. (current or '') end
end
local t = redis.call('TIME')
local now = tonumber(ARGV[2]) or t[1] * 1000 + math.floor(t[2] / 1000)
local stamp = t[1] * 1000000 + t[2]
local function text(n) return string.format('%.0f', n) end
local function number(s)
	if not s then return 0 end
	return tonumber(s) or error('CORRUPT count')
end

local function read(i)
	local b = { a = KEYS[2 + 2 * i], z = KEYS[3 + 2 * i], ends = tonumber(ARGV[8 + 4 * i]) }
	local v = redis.call('HMGET', b.a, 's', 'c', 'r', 'n', 'e', 'L' .. id, 'X' .. id, 'q')
	b.s, b.c, b.r, b.n, b.e, b.held = number(v[1]), number(v[2]), number(v[3]), v[4] and number(v[4]), v[5] or '', number(v[6])
	b.q = number(v[8])
	if b.n and b.n < gen then
		b.s, b.c, b.n = 0, 0, gen -- a reset since
		redis.call('HSET', b.a, 's', 0, 'c', 0, 'n', text(gen))
	end
	local charged, of = string.match(v[7] or '', '^(%d+)@(%d+)$')
	b.charged = number(of) == b.n and number(charged) or 0
	b.known = v[6] or v[7]
	b.stale = not b.known and b.e ~= '' and b.e == ARGV[9 + 4 * i] and ARGV[6] ~= '1'
	b.floor = b.n == nil or b.n == gen
	return b
end

-- charge adds to what is spent: to the gross, or to what is given back. Both
-- only grow, so that after a loss of data the greater one is the truer.
local function charge(b, i)
	if not b.n then
		b.n, b.e = gen, text(now)
		redis.call('HSET', b.a, 'n', text(gen), 'e', b.e)
		redis.call('PEXPIREAT', b.a, text(b.ends + 90000000))
	end
	if b.floor then
		local s, c = tonumber(ARGV[10 + 4 * i]), tonumber(ARGV[11 + 4 * i])
		if s > b.s then b.s = s; redis.call('HSET', b.a, 's', text(s)) end
		if c > b.c then b.c = c; redis.call('HSET', b.a, 'c', text(c)) end
	end
	local cost = actual - b.charged
	if cost > 0 then
		redis.call('HINCRBY', b.a, 's', text(cost))
		b.s = b.s + cost
	elseif cost < 0 then
		redis.call('HINCRBY', b.a, 'c', text(-cost))
		b.c = b.c - cost
	end
	if b.held > 0 then
		redis.call('HINCRBY', b.a, 'r', text(-b.held))
		redis.call('ZREM', b.z, id)
		b.r = b.r - b.held
		if string.sub(id, 1, 2) == 's:' then
			redis.call('HINCRBY', b.a, 'q', text(-b.held))
			b.q = b.q - b.held
		end
	end
	if b.known then redis.call('HDEL', b.a, 'L' .. id, 'X' .. id) end
end

local all, answer = {}, 'S'
for i = 0, budgets - 1 do all[i + 1] = read(i) end
if redis.call('GET', KEYS[1]) then
	answer = 'N'
else
	for i, b in ipairs(all) do
		if b.stale then answer = 'L' else charge(b, i - 1) end
	end
	redis.call('SET', KEYS[1], ARGV[7], 'PX', 300000)
end
for _, b in ipairs(all) do
	if b.n and b.n > gen then gen = b.n end
end
local reply = { answer, text(stamp), text(gen) }
for _, b in ipairs(all) do
	reply[#reply + 1] = text(b.s)
	reply[#reply + 1] = text(b.c)
	reply[#reply + 1] = text(b.r)
	reply[#reply + 1] = b.e == '' and '-' or b.e
	reply[#reply + 1] = text(b.q)
end
return table.concat(reply, ' ')
