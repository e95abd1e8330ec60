-- Begins a lease anew, where it has not run out.
--
-- KEYS  each budget's leases
-- ARGV  1 now  2 id  3 lease, ms
--
-- Replies: 'R stamp', or 'W stamp' if one has run out
local t = redis.call('TIME')
local now = tonumber(ARGV[1]) or t[1] * 1000 + math.floor(t[2] / 1000)
local answer = 'R '
for _, z in ipairs(KEYS) do
	local ends = redis.call('ZSCORE', z, ARGV[2])
	if ends and tonumber(ends) > now then
		redis.call('ZADD', z, 'XX', string.format('%.0f', now + tonumber(ARGV[3])), ARGV[2])
	else
		answer = 'W '
	end
end
return answer .. string.format('%.0f', t[1] * 1000000 + t[2])
