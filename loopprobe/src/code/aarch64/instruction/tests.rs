//! Each form as GNU as encodes it, `-march=armv8.5-a+lse`.

use super::*;

const AT: VirtAddr = VirtAddr(0x10_0000);

fn of(word: u32) -> Kind {
    Instruction::decode(word, AT).kind
}

/// The registers that an instruction may write.
fn written(word: u32) -> Vec<Register> {
    let instruction = Instruction::decode(word, AT);
    (0..32)
        .filter(|register| instruction.may_write(*register))
        .collect()
}

#[test]
fn addresses_are_told_from_the_instructions_own() {
    // adr x1, .; adr x1, .-12; adrp x2, .; adrp x0, .+0x1000
    assert_eq!(of(0x1000_0001), Kind::Address(1, AT));
    assert_eq!(of(0x10ff_ffa1), Kind::Address(1, VirtAddr(0xf_fff4)));
    assert_eq!(of(0x9000_0002), Kind::Page(2, AT));
    assert_eq!(of(0xb000_0000), Kind::Page(0, VirtAddr(0x10_1000)));
    // add x3, x2, #0x123; sub sp, sp, #0x40; mov x29, sp; mov x4, x5; add x0, x8, x0
    assert_eq!(of(0x9104_8c43), Kind::Add(3, 2, 0x123));
    assert_eq!(of(0xd101_03ff), Kind::Add(STACK, STACK, -0x40));
    assert_eq!(of(0x9100_03fd), Kind::Add(29, STACK, 0));
    assert_eq!(of(0xaa05_03e4), Kind::Add(4, 5, 0));
    assert_eq!(of(0x8b00_0100), Kind::Sum(0, 8, 0));
    assert_eq!(of(0x8b0b_094a), Kind::Sum(10, 10, 11));
    assert_eq!(of(0xd53b_d048), Kind::ThreadPointer(8));
    // mov w1, #5; movk x1, #7, lsl #16
    assert_eq!(of(0x5280_00a1), Kind::Number(1, 5));
    assert_eq!(of(0xf2a0_00e1), Kind::Part(1, 0xffff_0000, 0x7_0000));
}

#[test]
fn loads_and_stores_have_their_place_and_size() {
    // ldr x8, [x0, #24]; ldur x1, [x0, #-8]; ldrb w8, [x19, #104]; ldrsw x1, [x2, #4]
    assert_eq!(of(0xf940_0c08), Kind::Load(8, 0, 24));
    assert_eq!(of(0xf85f_8001), Kind::Load(1, 0, -8));
    assert_eq!(of(0x3941_a268), Kind::LoadPart(8, 19, 104, 1));
    assert_eq!(of(0xb980_0441), Kind::LoadPart(1, 2, 4, 4));
    // ldrsw x11, [x9, x8, lsl #2]; ldrb w11, [x9, x8]; ldrh w11, [x12, x9, lsl #1]
    assert_eq!(of(0xb8a8_792b), Kind::LoadEntry(11, 9, 8, 4));
    assert_eq!(of(0x3868_692b), Kind::LoadEntry(11, 9, 8, 1));
    assert_eq!(of(0x7869_798b), Kind::LoadEntry(11, 12, 9, 2));
    // strb w8, [x19, #104]; str x8, [x19, #8]
    assert_eq!(of(0x3901_a268), Kind::Store(19, 104, 1));
    assert_eq!(of(0xf900_0668), Kind::Store(19, 8, 8));
    // stp x29, x30, [sp, #-32]!; str x30, [sp, #-16]!
    assert_eq!(of(0xa9be_7bfd), Kind::Push(32));
    assert_eq!(of(0xf81f_0ffe), Kind::Push(16));
    // prfm pldl1keep, [x1]; ldr q0, [x1], #16
    assert_eq!(of(0xf980_0020), Kind::Other);
    assert_eq!(of(0x3cc1_0420), Kind::Other);
}

#[test]
fn jumps_have_their_targets() {
    let back = |by: u64| VirtAddr(AT.0 - by);
    assert_eq!(of(0x17ff_ffe9), Kind::Jump(back(0x5c)));
    assert_eq!(of(0x97ff_ffe8), Kind::Call(back(0x60)));
    // b.eq; cbz; cbnz; tbz; tbnz
    assert_eq!(of(0x54ff_fce0), Kind::Branch(back(0x64)));
    assert_eq!(of(0xb4ff_fcc0), Kind::Branch(back(0x68)));
    assert_eq!(of(0x35ff_fca0), Kind::Branch(back(0x6c)));
    assert_eq!(of(0x361f_fc80), Kind::Branch(back(0x70)));
    assert_eq!(of(0xb747_fc60), Kind::Branch(back(0x74)));
    // br x3; blr x3; ret; retaa; braa x1, x2
    assert_eq!(of(0xd61f_0060), Kind::JumpThrough(3));
    assert_eq!(of(0xd63f_0060), Kind::CallThrough(3));
    assert_eq!(of(0xd65f_03c0), Kind::Return);
    assert_eq!(of(0xd65f_0bff), Kind::Return);
    assert_eq!(of(0xd71f_0822), Kind::JumpThrough(1));
    // brk #1; udf #0; svc #0; nop; paciasp; bti c
    assert_eq!(of(0xd420_0020), Kind::Trap);
    assert_eq!(of(0), Kind::Trap);
    for word in [0xd400_0001, 0xd503_201f, 0xd503_233f, 0xd503_245f] {
        assert_eq!((of(word), written(word)), (Kind::Other, vec![]));
    }
}

#[test]
fn what_an_instruction_may_write_is_known() {
    let cases: [(u32, &[Register]); 30] = [
        (0xf100_0c3f, &[]),           // cmp x1, #3
        (0xb100_051f, &[]),           // cmn x8, #1
        (0xfa42_0020, &[]),           // ccmp x1, x2, #0, eq
        (0x9a83_1041, &[1]),          // csel x1, x2, x3, ne
        (0xf100_bec9, &[9]),          // subs x9, x22, #0x2f
        (0x5280_00a1, &[1]),          // mov w1, #5
        (0xf2a0_00e1, &[1]),          // movk x1, #7, lsl #16
        (0x927c_ec3f, &[31]),         // and sp, x1, #-16
        (0xcb21_63ff, &[31]),         // sub sp, sp, x1
        (0xd101_03ff, &[31]),         // sub sp, sp, #0x40
        (0x9b03_1041, &[1]),          // madd x1, x2, x3, x4
        (0xf840_8441, &[1, 2]),       // ldr x1, [x2], #8
        (0xf840_8c41, &[1, 2]),       // ldr x1, [x2, #8]!
        (0xf800_8441, &[2]),          // str x1, [x2], #8
        (0xf900_001f, &[]),           // str xzr, [x0]
        (0xa8c2_7bfd, &[29, 30, 31]), // ldp x29, x30, [sp], #32
        (0xa9be_7bfd, &[31]),         // stp x29, x30, [sp, #-32]!
        (0xad00_0540, &[]),           // stp q0, q1, [x10]
        (0x3cc1_0420, &[1]),          // ldr q0, [x1], #16
        (0x58ff_f861, &[1]),          // ldr x1, .-0xf4
        (0xf821_0062, &[2]),          // ldadd x1, x2, [x3]
        (0xf8e1_007f, &[]),           // ldaddal x1, xzr, [x3]
        (0xf8bf_c041, &[1]),          // ldapr x1, [x2]
        (0xf980_0020, &[0]),          // prfm pldl1keep, [x1]: in doubt
        (0x9e66_0001, &[1]),          // fmov x1, d0
        (0x9e78_0001, &[1]),          // fcvtzs x1, d0
        (0x0e07_3c01, &[1]),          // umov w1, v0.b[3]
        (0x1e63_2841, &[]),           // fadd d1, d2, d3
        (0xd63f_0060, &[30]),         // blr x3
        (0xd53b_d048, &[8]),          // mrs x8, tpidr_el0
    ];
    for (word, registers) in cases {
        assert_eq!(written(word), registers, "{word:#x}");
    }
    // stxr w3, w1, [x2]: the status among others; cas w1, w2, [x3]
    assert!(written(0x8803_7c41).contains(&3));
    assert!(written(0x88a1_7c62).contains(&1));
}
