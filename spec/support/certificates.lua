-- Certificates for specs, made by the openssl command in a folder of their own: an authority and what it has signed,
-- and some that nobody should take. All keys are on a curve, which makes them quick to come by.
local command = require "spec.support.command"

local Certificates = {}
Certificates.__index = Certificates

local function run(dir, ...)
  local spec = { "env", "-C", dir, "openssl" }
  for _, word in ipairs { ... } do spec[#spec + 1] = word end
  local _, stderr, code = command.run(spec)
  if code ~= 0 then error(("openssl %s: %s"):format((...), stderr), 2) end
end

-- Makes NAME.key and the request NAME.csr.
local function request(self, name, subject)
  run(self.dir, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256", "-utf8",
    "-keyout", name .. ".key", "-out", name .. ".csr", "-subj", subject)
end

-- Signs NAME.csr -> NAME.pem. options: ca (name of the signer, itself if nil), names (of the subject), days, extra
-- (lines of extensions).
local function sign(self, name, options)
  local extensions = { "basicConstraints=CA:" .. (options.authority and "TRUE" or "FALSE") }
  if options.names then extensions[#extensions + 1] = "subjectAltName=" .. options.names end
  extensions[#extensions + 1] = options.extra
  command.write_file(("%s/%s.ext"):format(self.dir, name), table.concat(extensions, "\n") .. "\n")
  local words = { "x509", "-req", "-in", name .. ".csr", "-out", name .. ".pem", "-sha256", "-extfile", name .. ".ext",
    "-days", options.days or "3650", "-set_serial", tostring(self.serial) }
  self.serial = self.serial + 1
  local signer = options.ca and { "-CA", options.ca .. ".pem", "-CAkey", options.ca .. ".key" }
    or { "-signkey", name .. ".key" }
  table.move(signer, 1, #signer, #words + 1, words)
  run(self.dir, table.unpack(words))
end

-- certificates:issue(name, options) makes NAME.key and NAME.pem.
function Certificates:issue(name, options)
  request(self, name, options.subject or "/CN=" .. name)
  sign(self, name, options)
end

-- The path of a file.
function Certificates:path(name) return self.dir .. "/" .. name end

-- Its text.
function Certificates:text(name) return (assert(command.slurp(self:path(name)), name)) end

-- { cert = , key = } of a name.
function Certificates:pair(name) return { cert = self:path(name .. ".pem"), key = self:path(name .. ".key") } end

function Certificates:remove() command.remove_dir(self.dir) end
Certificates.__close = Certificates.remove

local LOCAL = "DNS:localhost,DNS:example.test,DNS:*.wild.test,IP:127.0.0.1,IP:::1"

-- make() -> certificates, closable: `ca` and `server` (by ca, for localhost, example.test, *.wild.test, 127.0.0.1, ::1),
-- and those named in `more`: `client` (by ca), `other` (another authority), `stranger` (by other), `expired`, `wrong`
-- (by ca, for another host), `common` (by ca, localhost in its subject alone), `purpose` (by ca, for clients alone), `self` (signed by itself), `leaf` (by `middle`, which ca has signed; leaf.chain has both).
local function make(...)
  local self = setmetatable({ dir = command.temp_dir(), serial = 1 }, Certificates)
  self:issue("ca", { authority = true, subject = "/O=Lunation specs/CN=Test CA" })
  self:issue("server", { ca = "ca", names = LOCAL })
  local kinds = {
    client = function() self:issue("client", { ca = "ca", subject = "/CN=Client \xC3\x84da" }) end,
    other = function() self:issue("other", { authority = true, subject = "/CN=Other CA" }) end,
    stranger = function() self:issue("stranger", { ca = "other", names = LOCAL }) end,
    expired = function() self:issue("expired", { ca = "ca", names = LOCAL, days = "-1" }) end,
    wrong = function() self:issue("wrong", { ca = "ca", names = "DNS:elsewhere.test" }) end,
    common = function() self:issue("common", { ca = "ca", subject = "/CN=localhost" }) end,
    purpose = function() self:issue("purpose", { ca = "ca", names = LOCAL, extra = "extendedKeyUsage=clientAuth" }) end,
    self = function() self:issue("self", { names = LOCAL }) end,
    leaf = function()
      self:issue("middle", { ca = "ca", authority = true })
      self:issue("leaf", { ca = "middle", names = LOCAL })
      command.write_file(self:path "leaf.chain", self:text "leaf.pem" .. self:text "middle.pem")
    end,
  }
  for _, kind in ipairs { ... } do kinds[kind]() end
  return self
end

return { make = make }
