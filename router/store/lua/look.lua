-- Where the account stands; changes nothing but what time changes. Reply: at, r, t, slots, spent
local a = load()
return { a.at, a.r, a.t, a.n, a.spent }
