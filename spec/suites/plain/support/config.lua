-- Another configuration of busted, by its name alone.
return { default = { ROOT = { "specs/tokenizer_suite.lua" }, lpath = "./lib/?.lua" } }
