//! How instructions move the stack pointer and the frame pointer, for code without call frame
//! information.

use iced_x86::{
    Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic, OpAccess, OpKind,
    Register,
};

/// What a push or a pop moves the stack pointer by.
const WORD: i32 = 8;

/// A stack address, from the registers that a walk over code began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// From which of them.
    pub base: Base,
    /// Bytes from there.
    pub offset: i64,
}

/// A register's value at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Base {
    /// The stack pointer's.
    Sp,
    /// The frame pointer's.
    Bp,
}

impl Place {
    fn plus(self, bytes: i64) -> Option<Self> {
        let offset = self.offset.checked_add(bytes)?;
        Some(Self { offset, ..self })
    }
}

/// What the frame pointer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FramePointer {
    /// The value that lies at this stack address.
    Loaded(Place),
    /// This stack address.
    At(Place),
    /// Something else.
    Unknown,
}

/// Where both registers point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pointers {
    pub sp: Place,
    pub bp: FramePointer,
}

impl Pointers {
    /// Both have the values that the walk began with.
    pub(super) const START: Self = Self {
        sp: Place {
            base: Base::Sp,
            offset: 0,
        },
        bp: FramePointer::At(Place {
            base: Base::Bp,
            offset: 0,
        }),
    };

    /// After an instruction that is no jump; `None` if the stack pointer is not known any more.
    pub(super) fn after(
        mut self,
        instruction: &Instruction,
        info: &mut InstructionInfoFactory,
    ) -> Option<Self> {
        match instruction.mnemonic() {
            // A call leaves both as they were: by convention, and because its callee's frame is
            // gone.
            Mnemonic::Call => {}
            Mnemonic::Push | Mnemonic::Pushfq if instruction.stack_pointer_increment() == -WORD => {
                self.sp = self.sp.plus((-WORD).into())?;
            }
            Mnemonic::Pop | Mnemonic::Popfq if instruction.stack_pointer_increment() == WORD => {
                self.pop(instruction)?;
            }
            Mnemonic::Leave => {
                let FramePointer::At(frame) = self.bp else {
                    return None;
                };
                self.bp = FramePointer::Loaded(frame);
                self.sp = frame.plus(WORD.into())?;
            }
            _ => {
                let before = self;
                for used in info
                    .info_options(instruction, InstructionInfoOptions::NO_MEMORY_USAGE)
                    .used_registers()
                {
                    if is_write(used.access()) {
                        match used.register().full_register() {
                            Register::RSP => self.sp = before.new_sp(instruction)?,
                            Register::RBP => self.bp = before.new_bp(instruction),
                            _ => {}
                        }
                    }
                }
            }
        }
        Some(self)
    }

    fn pop(&mut self, instruction: &Instruction) -> Option<()> {
        if instruction.op_count() == 1 && instruction.op0_kind() == OpKind::Register {
            match instruction.op0_register() {
                Register::RSP => return None,
                Register::RBP => self.bp = FramePointer::Loaded(self.sp),
                _ => {}
            }
        }
        self.sp = self.sp.plus(WORD.into())?;
        Some(())
    }

    fn new_sp(self, instruction: &Instruction) -> Option<Place> {
        let bytes = || -> Option<i64> {
            matches!(
                instruction.op1_kind(),
                OpKind::Immediate8to64 | OpKind::Immediate32to64
            )
            .then(|| instruction.immediate(1).cast_signed())
        };
        match instruction.mnemonic() {
            Mnemonic::Add => self.sp.plus(bytes()?),
            Mnemonic::Sub => self.sp.plus(bytes()?.checked_neg()?),
            Mnemonic::Lea => self.address(instruction),
            Mnemonic::Mov if instruction.op1_kind() == OpKind::Register => {
                match (instruction.op1_register(), self.bp) {
                    (Register::RBP, FramePointer::At(frame)) => Some(frame),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn new_bp(self, instruction: &Instruction) -> FramePointer {
        let (memory, register) = (
            instruction.op1_kind() == OpKind::Memory,
            instruction.op1_kind() == OpKind::Register
                && instruction.op1_register() == Register::RSP,
        );
        match instruction.mnemonic() {
            Mnemonic::Mov if register => FramePointer::At(self.sp),
            Mnemonic::Mov if memory && instruction.op0_register() == Register::RBP => self
                .address(instruction)
                .map_or(FramePointer::Unknown, FramePointer::Loaded),
            Mnemonic::Lea if instruction.op0_register() == Register::RBP => self
                .address(instruction)
                .map_or(FramePointer::Unknown, FramePointer::At),
            _ => FramePointer::Unknown,
        }
    }

    /// The stack address that an instruction's memory operand names.
    fn address(self, instruction: &Instruction) -> Option<Place> {
        if instruction.memory_index() != Register::None
            || instruction.segment_prefix() != Register::None
        {
            return None;
        }
        let base = match (instruction.memory_base(), self.bp) {
            (Register::RSP, _) => self.sp,
            (Register::RBP, FramePointer::At(frame)) => frame,
            _ => return None,
        };
        base.plus(instruction.memory_displacement64().cast_signed())
    }
}

fn is_write(access: OpAccess) -> bool {
    !matches!(
        access,
        OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
    )
}
