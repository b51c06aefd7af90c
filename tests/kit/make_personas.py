#!/usr/bin/env python3
"""Write "personas": trees of files by which a test device looks like a given board.

usage: make_personas.py OUT_DIR [NAME...]        (no NAME: all; --list: names)

A persona is a folder holding, as far as the board has them:
  proc/cpuinfo proc/meminfo                       shown instead of the kernel's
  sys/firmware/devicetree/base/{model,compatible,serial-number}
  sys/class/thermal/thermal_zone0/{temp,type}
  sys/devices/system/cpu/cpu0/cpufreq/{scaling_governor,scaling_max_freq,scaling_cur_freq}
  etc/os-release, etc/rpi-issue, etc/nv_tegra_release, etc/edge-persona.env
  usr/bin/vcgencmd or usr/bin/tegrastats, usr/sbin/nvpmodel: stand-in programs that print
      what etc/edge-persona.env says, so a test can change temperature, throttling, load
      while the device runs.
Used by make_fleet.sh --persona (all of it), make_vm.sh --persona and boot_vm.sh --persona
(there the device tree is the machine's real one).  The stand-ins are plain sh.
The numbers are typical values of such boards, not measurements.  Python >= 3.6, stdlib.
"""

import os
import stat
import sys

A53 = ("0xd03", "0x0", 4, "fp asimd evtstrm crc32 cpuid")
A72 = ("0xd08", "0x0", 3, "fp asimd evtstrm crc32 cpuid")
A76 = (
    "0xd0b",
    "0x4",
    1,
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
)
A57 = ("0xd07", "0x1", 1, "fp asimd evtstrm aes pmull sha1 sha2 crc32")
A78AE = ("0xd42", "0x0", 1, A76[3] + " uscat ilrcpc flagm paca pacg")
A7 = ("0xc07", "0x0", 5, "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm")

DEB12 = (
    'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
    'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
)
RASPBIAN = (
    'PRETTY_NAME="Raspbian GNU/Linux 12 (bookworm)"\nNAME="Raspbian GNU/Linux"\nVERSION_ID="12"\n'
    'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=raspbian\nID_LIKE=debian\n'
)


def ubuntu(v, code):
    return (
        f'NAME="Ubuntu"\nVERSION_ID="{v}"\nVERSION="{v} LTS"\nID=ubuntu\nID_LIKE=debian\n'
        f'PRETTY_NAME="Ubuntu {v} LTS"\nVERSION_CODENAME={code}\n'
    )


#            cpu, cores, MB, max kHz, model, compatible, os-release, more
BOARDS = {
    "pi-zero2w": (
        A53,
        4,
        416,
        1000000,
        "Raspberry Pi Zero 2 W Rev 1.0",
        ["raspberrypi,model-zero-2-w", "brcm,bcm2837"],
        DEB12,
        {"pi": "902120"},
    ),
    "pi3": (
        A53,
        4,
        905,
        1200000,
        "Raspberry Pi 3 Model B Rev 1.2",
        ["raspberrypi,3-model-b", "brcm,bcm2837"],
        DEB12,
        {"pi": "a02082"},
    ),
    "pi2-32bit": (
        A7,
        4,
        922,
        900000,
        "Raspberry Pi 2 Model B Rev 1.1",
        ["raspberrypi,2-model-b", "brcm,bcm2836"],
        RASPBIAN,
        {"pi": "a01041"},
    ),
    "pi4": (
        A72,
        4,
        3794,
        1800000,
        "Raspberry Pi 4 Model B Rev 1.4",
        ["raspberrypi,4-model-b", "brcm,bcm2711"],
        DEB12,
        {"pi": "c03114"},
    ),
    "pi5": (
        A76,
        4,
        8062,
        2400000,
        "Raspberry Pi 5 Model B Rev 1.0",
        ["raspberrypi,5-model-b", "brcm,bcm2712"],
        DEB12,
        {"pi": "d04170"},
    ),
    "jetson-nano": (
        A57,
        4,
        3956,
        1479000,
        "NVIDIA Jetson Nano Developer Kit",
        ["nvidia,p3449-0000-b00+p3448-0000-b00", "nvidia,jetson-nano", "nvidia,tegra210"],
        ubuntu("18.04", "bionic"),
        {
            "l4t": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, "
            "EABI: aarch64, DATE: Sat Feb 19 17:05:08 UTC 2022",
            "style": "nano",
        },
    ),
    "jetson-orin-nano": (
        A78AE,
        6,
        7620,
        1510400,
        "NVIDIA Jetson Orin Nano Developer Kit",
        ["nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"],
        ubuntu("22.04", "jammy"),
        {
            "l4t": "# R36 (release), REVISION: 3.0, GCID: 36923193, BOARD: generic, "
            "EABI: aarch64, DATE: Fri Jul 19 23:24:25 UTC 2024",
            "style": "orin",
        },
    ),
}
SERIAL = "10000000abcdef01"


def cpuinfo(cpu, cores, pi, model):
    part, var, rev, feat = cpu
    v7 = part == "0xc07"
    out = []
    for i in range(cores):
        out.append(f"processor\t: {i}\n")
        if v7:
            out.append(f"model name\t: ARMv7 Processor rev {rev} (v7l)\n")
        out.append(
            f"BogoMIPS\t: {'38.40' if v7 else '108.00'}\nFeatures\t: {feat}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: {7 if v7 else 8}\nCPU variant\t: {var}\nCPU part\t: {part}\nCPU revision\t: {rev}\n\n"
        )
    if pi:
        out.append(
            "{}Revision\t: {}\nSerial\t\t: {}\nModel\t\t: {}\n".format(
                "Hardware\t: BCM2835\n" if v7 else "", pi, SERIAL, model
            )
        )
    return "".join(out)


def meminfo(mb):
    kb = mb * 1024
    rows = [
        ("MemTotal", kb),
        ("MemFree", kb // 2),
        ("MemAvailable", kb * 7 // 10),
        ("Buffers", kb // 50),
        ("Cached", kb // 5),
        ("SwapCached", 0),
        ("SwapTotal", 102396),
        ("SwapFree", 102396),
    ]
    return "".join(f"{k + ':':<15} {v:8d} kB\n" for k, v in rows)


def stand_in(name):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "stand_ins", name)) as f:
        return f.read()


def put(root, path, text, exe=False):
    p = os.path.join(root, path)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    with open(p, "w") as f:
        f.write(text)
    if exe:
        os.chmod(p, os.stat(p).st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def write(out, name):
    cpu, cores, mb, khz, model, compat, osr, more = BOARDS[name]
    root = os.path.join(out, name)
    pi = more.get("pi")
    put(root, "proc/cpuinfo", cpuinfo(cpu, cores, pi, model))
    put(root, "proc/meminfo", meminfo(mb))
    dt = "sys/firmware/devicetree/base/"
    put(root, dt + "model", model + "\0")
    put(root, dt + "compatible", "\0".join(compat) + "\0")
    put(root, dt + "serial-number", SERIAL + "\0")
    th = "sys/class/thermal/thermal_zone0/"
    put(root, th + "type", "cpu-thermal\n")
    put(root, th + "temp", "48312\n")
    cf = "sys/devices/system/cpu/cpu0/cpufreq/"
    put(root, cf + "scaling_governor", "ondemand\n")
    put(root, cf + "scaling_max_freq", f"{khz}\n")
    put(root, cf + "scaling_cur_freq", f"{khz}\n")
    put(root, "etc/os-release", osr)
    put(
        root,
        "etc/edge-persona.env",
        "# read by the stand-in tools, e.g.:\n# TEMP=81.2\n# THROTTLED=0x50005\n# GPU=97\n",
    )
    if pi:
        put(root, "etc/rpi-issue", "Raspberry Pi reference 2024-07-04\n")
        put(root, "usr/bin/vcgencmd", stand_in("vcgencmd"), True)
    if "l4t" in more:
        put(root, "etc/nv_tegra_release", more["l4t"] + "\n")
        put(root, "usr/bin/tegrastats", stand_in("tegrastats").replace("STYLE", more["style"], 1), True)
        put(root, "usr/sbin/nvpmodel", stand_in("nvpmodel"), True)


if __name__ == "__main__":
    if "--list" in sys.argv:
        print("\n".join(sorted(BOARDS)))
    elif len(sys.argv) < 2:
        sys.exit(__doc__)
    else:
        for n in sys.argv[2:] or sorted(BOARDS):
            write(sys.argv[1], n)
