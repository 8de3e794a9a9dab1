# Finds the Lua to build against and looks whether it needs a stack reserve.
#
# Reads LUNATION_LUA_DIR (a prefix, wins) and LUNATION_LUA_PKG (a pkg-config name). Makes
#   lunation_lua_headers    the include path alone, for the module
#   lunation_liblua         headers and library, for programs
#   lunation_liblua_shared  the same for a shared library: with a static Lua, headers alone, or
#                           the process would have two copies of it
#   lunation_liblua_whole   the same for a program whose C modules need all of Lua's functions
# and sets LUNATION_STACK_RESERVE (in the cache; a value given there is taken as it is).

if(LUNATION_LUA_DIR)
    file(GLOB lua_library ${LUNATION_LUA_DIR}/lib/liblua*.so ${LUNATION_LUA_DIR}/lib/liblua*.a)
    list(FILTER lua_library EXCLUDE REGEX "c\\+\\+")
    find_path(lua_include lua.h NO_DEFAULT_PATH NO_CACHE
        PATHS ${LUNATION_LUA_DIR}/include PATH_SUFFIXES lua5.4 lua54 lua)
    if(NOT lua_library OR NOT lua_include)
        message(FATAL_ERROR "LUNATION_LUA_DIR=${LUNATION_LUA_DIR} lacks include/lua.h or lib/liblua*.{so,a}")
    endif()
    list(GET lua_library 0 lua_library) # the shared one, where both are there
    set(lua_origin ${lua_library})
else()
    pkg_check_modules(LUA REQUIRED IMPORTED_TARGET ${LUNATION_LUA_PKG})
    set(lua_library PkgConfig::LUA)
    set(lua_include ${LUA_INCLUDE_DIRS})
    set(lua_origin ${LUNATION_LUA_PKG})
endif()

set(lua_whole ${lua_library})
set(lua_for_shared ${lua_library})
if(lua_library MATCHES "\\.a$")
    list(APPEND lua_library m ${CMAKE_DL_LIBS})
    set(lua_whole -Wl,--whole-archive ${lua_whole} -Wl,--no-whole-archive m ${CMAKE_DL_LIBS})
    set(lua_for_shared "")
endif()
add_library(lunation_lua_headers INTERFACE)
target_include_directories(lunation_lua_headers SYSTEM INTERFACE ${lua_include})
add_library(lunation_liblua INTERFACE)
target_link_libraries(lunation_liblua INTERFACE lunation_lua_headers ${lua_library})
add_library(lunation_liblua_shared INTERFACE)
target_link_libraries(lunation_liblua_shared INTERFACE lunation_lua_headers ${lua_for_shared})
add_library(lunation_liblua_whole INTERFACE)
target_link_libraries(lunation_liblua_whole INTERFACE lunation_lua_headers ${lua_whole})

# The preprocessor knows the version better than any .pc file.
try_compile(lua_recent ${PROJECT_BINARY_DIR}/probe/version
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/probe_version.c
    CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${lua_include}"
    LINK_LIBRARIES ${lua_library}
    OUTPUT_VARIABLE lua_recent_output)
if(NOT lua_recent)
    unset(lua_recent CACHE)
    message(FATAL_ERROR "Lunation needs Lua 5.4.3 or newer; ${lua_origin} will not do:\n${lua_recent_output}")
endif()

# A stale stack pointer in some builds of Lua 5.4 (probe_concat.c tells all): there, coroutines
# get a reserve of stack slots. The probe may crash or hang, so it is a process of its own.
if(NOT DEFINED LUNATION_STACK_RESERVE)
    set(reserve 128)
    if(CMAKE_CROSSCOMPILING)
        message(STATUS "Lua's concat defect: cannot be probed when cross compiling, assumed")
    else()
        set(probe ${PROJECT_BINARY_DIR}/probe/concat_probe)
        try_compile(lua_probe_built ${PROJECT_BINARY_DIR}/probe/concat
            SOURCES ${CMAKE_CURRENT_LIST_DIR}/probe_concat.c
            CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${lua_include}"
            LINK_LIBRARIES ${lua_library}
            COPY_FILE ${probe} COPY_FILE_ERROR probe_not_copied)
        set(outcome "not built")
        if(lua_probe_built AND NOT probe_not_copied)
            execute_process(COMMAND ${probe} TIMEOUT 30 RESULT_VARIABLE outcome
                OUTPUT_QUIET ERROR_QUIET)
        endif()
        if(outcome STREQUAL "0")
            set(reserve 0)
            message(STATUS "Lua's concat defect: absent")
        else()
            message(STATUS "Lua's concat defect: present (${outcome})")
        endif()
    endif()
    set(LUNATION_STACK_RESERVE ${reserve} CACHE STRING
        "Stack slots reserved in each coroutine against Lua's concat defect; 0 on a sound Lua")
endif()
message(STATUS "Lua: ${lua_origin}, stack reserve ${LUNATION_STACK_RESERVE}")
