# Builds the CPU addon where CMake is missing: npm run build:gyp -> native/build/Release/theia.node. CMakeLists.txt is the build proper;
# flags here follow it. gyp has no flags per file, so the files of each instruction set are a static library of their own.
{
  "variables": {
    "list": "node -p \"require('fs').readdirSync('../kernels',{recursive:true}).filter(f=>f.endsWith('.cpp')&&!f.startsWith('simt'))",
    "flags": ["-std=c++20", "-O3", "-Wall", "-Wextra", "-Wno-restrict", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
  },
  "target_defaults": {
    "include_dirs": ["..", "<!(node -p \"require('node-addon-api').include_dir\")"],
    "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++14", "-std=gnu++20", "-fno-strict-aliasing"],
    "cflags_cc": ["<@(flags)", "-fexceptions"],
    "libraries": ["-ldl"]
  },
  "targets": [
    {
      "target_name": "theia",
      "sources": [
        "<!@(node -p \"require('fs').readdirSync('.').filter(f=>f.endsWith('.cpp')).join(' ')\")",
        "<!@(<(list).filter(f=>!/_avx(2|512)\\.cpp$/.test(f)).map(f=>'../kernels/'+f).join(' ')\")"
      ],
      "conditions": [["target_arch=='x64'", { "dependencies": ["theia_avx2", "theia_avx512"] }]]
    }
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        {
          "target_name": "theia_avx2",
          "type": "static_library",
          "sources": ["<!@(<(list).filter(f=>f.endsWith('_avx2.cpp')).map(f=>'../kernels/'+f).join(' ')\")"],
          "cflags_cc": ["-mavx2", "-mfma", "-mf16c", "-mprfchw"]
        },
        {
          "target_name": "theia_avx512",
          "type": "static_library",
          "sources": ["<!@(<(list).filter(f=>f.endsWith('_avx512.cpp')).map(f=>'../kernels/'+f).join(' ')\")"],
          "cflags_cc": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mf16c", "-mprfchw", "-mprefer-vector-width=512"]
        }
      ]
    }]
  ]
}
