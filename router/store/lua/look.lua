-- Where the account stands; changes nothing but what time changes and what is put back. Reply: at, r, t, slots, spent
local a = load()
if a.fresh then
  save(a)
end
return { a.at, a.r, a.t, a.n, a.spent }
