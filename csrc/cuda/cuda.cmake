# The CUDA backend: a shared library of its own, which the engine loads when a GPU is asked for.
set(LRENGINE_CUDA AUTO CACHE STRING "Build the CUDA backend: AUTO (where nvcc and a GPU are found), ON or OFF")
set(LRENGINE_CUDA_ARCHITECTURES "" CACHE STRING
    "Compute capabilities to build for, for example 80;90; empty: the GPU that is here, else all supported ones")
option(LRENGINE_CUDA_EMULATION "Build the CUDA backend for the CPU too, as tests run it" OFF)

file(GLOB LRENGINE_CUDA_HOST_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda/*.cpp)
file(GLOB LRENGINE_CUDA_KERNELS CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda/*.cu ${CMAKE_CURRENT_SOURCE_DIR}/ops/*_cuda.cu)

# Sets `capabilities` to those of the GPUs that the driver shows, as 90 for 9.0; empty without one.
function(lrengine_find_gpus capabilities)
    set(${capabilities} "" PARENT_SCOPE)
    find_program(LRENGINE_NVIDIA_SMI nvidia-smi)
    if(LRENGINE_NVIDIA_SMI)
        execute_process(COMMAND ${LRENGINE_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
            OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
        if(NOT failed)
            string(REGEX MATCHALL "[0-9]+\\.[0-9]+" found "${found}")
            string(REPLACE "." "" found "${found}")
            list(REMOVE_DUPLICATES found)
            set(${capabilities} "${found}" PARENT_SCOPE)
        endif()
    endif()
endfunction()

if(NOT LRENGINE_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    check_language(CUDA)
    lrengine_find_gpus(LRENGINE_GPUS)
    if(LRENGINE_CUDA STREQUAL "ON" AND NOT CMAKE_CUDA_COMPILER)
        message(FATAL_ERROR "LRENGINE_CUDA is ON, but nvcc was not found")
    elseif(NOT CMAKE_CUDA_COMPILER)
        message(STATUS "lrengine: no nvcc, so no CUDA backend; the CPU engine is built")
    elseif(LRENGINE_CUDA STREQUAL "AUTO" AND NOT LRENGINE_GPUS AND NOT LRENGINE_CUDA_ARCHITECTURES)
        message(STATUS "lrengine: nvcc but no GPU, so no CUDA backend (LRENGINE_CUDA=ON builds it for every supported one)")
    else()
        if(LRENGINE_CUDA_ARCHITECTURES)
            set(CMAKE_CUDA_ARCHITECTURES ${LRENGINE_CUDA_ARCHITECTURES})
        elseif(LRENGINE_GPUS)
            set(CMAKE_CUDA_ARCHITECTURES ${LRENGINE_GPUS})
        else()
            set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 87-real 89-real 90-real 100)  # and PTX for what comes later
        endif()
        message(STATUS "lrengine: CUDA backend for ${CMAKE_CUDA_ARCHITECTURES}")
        enable_language(CUDA)
        set(CMAKE_CUDA_STANDARD 20)
        find_package(CUDAToolkit REQUIRED)
        add_library(lrengine_cuda SHARED ${LRENGINE_CUDA_HOST_SOURCES} ${LRENGINE_CUDA_KERNELS})
        target_link_libraries(lrengine_cuda PRIVATE lrengine_core CUDA::cudart_static ${CMAKE_DL_LIBS})
        target_link_options(lrengine_cuda PRIVATE -Wl,--exclude-libs,ALL)
        set_target_properties(lrengine_cuda PROPERTIES CUDA_VISIBILITY_PRESET hidden)
        # The host's -Wall -Wextra -Werror come with lrengine_core; nvcc must hand them on and be as strict itself.
        target_compile_options(lrengine_cuda PRIVATE
            $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${LRENGINE_WERROR}>>:-Werror=all-warnings>)
    endif()
endif()

# The same backend on the CPU: what the engine's tests load in the place of lrengine_cuda, and what op tests link.
if(LRENGINE_CUDA_EMULATION)
    add_library(lrengine_cuda_emulated SHARED ${LRENGINE_CUDA_HOST_SOURCES})
    lrengine_add_emulated_cuda(lrengine_cuda_emulated ${LRENGINE_CUDA_KERNELS})
    target_link_libraries(lrengine_cuda_emulated PRIVATE lrengine_core)
    target_link_options(lrengine_cuda_emulated PRIVATE -Wl,--exclude-libs,ALL)
endif()
