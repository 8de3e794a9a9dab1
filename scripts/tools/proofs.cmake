# The proofs: each a test named proof_NAME with the label "proof", in the build that it is about.
#
#   ctest --test-dir build/release -L proof          LUNATION_LONG=1: their long tiers
#
# Included by CMakeLists.txt after the C specs. The last line of a proof is
#   NAME: N points, N failures, seed N, N.N s
# after a line `replay: COMMAND` for each failure; it ends with status 1 if there is any, or no
# point at all.

# How programs of this build are run: the stock interpreter that can load the module, and how many
# times slower than release to expect things.
set(stock lua5.4)
set(slow 1)
if(LUNATION_SANITIZE OR LUNATION_TSAN)
    set(sanitizer libasan.so)
    if(LUNATION_TSAN)
        set(sanitizer libtsan.so)
    endif()
    execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=${sanitizer}
        OUTPUT_VARIABLE preload OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(LUNATION_TSAN)
        string(APPEND preload ":${PROJECT_BINARY_DIR}/libtsan_shims.so")
    endif()
    set(stock "env LD_PRELOAD=${preload} lua5.4")
    set(slow 3)
endif()

# lunation_proof(NAME COMMAND...): one for this build, run from the repository's root.
function(lunation_proof name)
    add_test(NAME proof_${name} COMMAND ${ARGN} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set(env LUNATION=${PROJECT_BINARY_DIR}/lunation LUNATION_MODULE=${PROJECT_BINARY_DIR}/lua
        "LUNATION_LUA=${stock}" LUNATION_SLOW=${slow})
    set_tests_properties(proof_${name} PROPERTIES TIMEOUT 86400 LABELS proof SKIP_RETURN_CODE 77
        ENVIRONMENT "${env}")
endfunction()

if(LUNATION_TSAN)
    lunation_proof(threads lua5.4 spec/proofs/threads.lua)
elseif(LUNATION_CHAOS)
    lunation_proof(hostile lua5.4 spec/proofs/hostile.lua)
elseif(LUNATION_DEBUG AND NOT LUNATION_SANITIZE)
    lunation_proof(memcheck lua5.4 spec/proofs/memcheck.lua)
elseif(NOT LUNATION_SANITIZE AND NOT LUNATION_COVERAGE)
    # The longest first, for scripts/test, which runs two at a time.
    lunation_proof(sweep_throw lua5.4 spec/proofs/sweep.lua throw)
    lunation_proof(memory sweep_memory)
    lunation_proof(sweep_cancel lua5.4 spec/proofs/sweep.lua cancel)
    lunation_proof(model lunation spec/proofs/model.lua)
    lunation_proof(simulation lunation spec/proofs/simulation.lua)
    # The builds beside this one; those that are missing it names.
    cmake_path(GET PROJECT_BINARY_DIR PARENT_PATH builds)
    lunation_proof(digest lua5.4 spec/proofs/digest.lua
        ${builds}/release ${builds}/clang ${builds}/asan)
    lunation_proof(coverage lua5.4 spec/proofs/coverage.lua ${builds}/coverage)
    set_tests_properties(proof_coverage PROPERTIES RUN_SERIAL ON)
endif()
