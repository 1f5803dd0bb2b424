-- Where the account stands. Changes only what time changes and what is put back. Reply: standing
local a = load()
if a.fresh then
  save(a)
end
return standing({}, a)
