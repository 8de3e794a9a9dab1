# Writes the C table of embedded Lua modules (bindings/embedded.h tells what a row means).
#
#   cmake -DROOT=scripts -DOUT=lun_embedded.c -DFILES=lunation/a.lua|lunation/b.lua -P embed.cmake
#
# FILES are relative to ROOT, separated by bars; none at all gives an empty table. Plain CMake, so
# that a build needs no Lua interpreter: the Lua linked may be another one than the machine's.

string(REPLACE "|" ";" files "${FILES}")
list(SORT files)

set(arrays "")
set(rows "")
set(number 0)
foreach(file IN LISTS files)
    string(REGEX REPLACE "(/init)?\\.lua$" "" name "${file}")
    string(REPLACE "/" "." name "${name}")
    file(READ "${ROOT}/${file}" hex HEX)
    string(LENGTH "${hex}" length)
    math(EXPR size "${length} / 2")
    if(size EQUAL 0)
        set(hex "0a") # an array needs an element; size says that it does not count
    endif()
    string(REGEX REPLACE "(................................)" "\\1\n    " hex "${hex}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND arrays "static const unsigned char code_${number}[] = {\n    ${bytes}\n};\n\n")
    string(APPEND rows "    {\"${name}\", code_${number}, ${size}},\n")
    math(EXPR number "${number} + 1")
endforeach()

file(WRITE "${OUT}" "/* Written by scripts/tools/embed.cmake: change the Lua files instead. */
#include \"embedded.h\"

${arrays}const struct lunl_embedded lunl_embedded[] = {
${rows}    {NULL, NULL, 0},
};
")
