//! Whether an image has Tokio's tasks in it, without naming them: a tenth of a second where
//! `discover` takes seconds.

use std::{fs::File, path::Path};

use super::{discover, version};
use crate::{
    elf::{ElfError, Image, Sections},
    runtime::{Presence, detect::installed_debug_file},
};

/// Looks into a file for task types of Tokio's; `None` where [`super::discover`] would find none.
///
/// # Errors
/// When it is no ELF image that can be read.
pub(super) fn presence(file: File, path: &Path) -> Result<Option<Presence>, ElfError> {
    let again = file.try_clone();
    let found = of_image(&Image::without_code(file, path)?);
    let found = match (found, again) {
        // Unusual layouts keep strings among the code.
        (Some((_, false)), Ok(file)) => of_image(&Image::from_file(file, path)?),
        (found, _) => found,
    };
    Ok(found.map(|(presence, _)| presence))
}

/// What can be told of an image's Tokio at once, and whether its versions stand in the file.
fn of_image(image: &Image) -> Option<(Presence, bool)> {
    // Without readable sections an image is one without symbols.
    let own = image.sections().ok();
    let separate = || installed_debug_file(image);
    let own_symbols = own.as_ref().map(discover::read_symbols).unwrap_or_default();
    let stripped = own_symbols.is_empty();

    let versions = version::from_locations(image);
    let mut vtables = discover::find_vtables(image, &versions, &own_symbols);
    if vtables.is_empty() && stripped {
        let symbols = discover::read_symbols(&separate()?);
        vtables = discover::find_vtables(image, &versions, &symbols);
    }
    if vtables.is_empty() {
        return None;
    }
    let tells_lines = |sections: &Sections| sections.has(".debug_info");
    let lines =
        own.as_ref().is_some_and(tells_lines) || separate().as_ref().is_some_and(tells_lines);
    let presence = Presence {
        versions: discover::name_versions(&versions, &vtables).0,
        stripped,
        lines,
    };
    Some((presence, !versions.is_empty()))
}
