//! How large the appliance is.

use crate::report::Figure;
use crate::support::Appliance;

pub(crate) fn measure() -> Vec<Figure> {
    let appliance = Appliance::built();
    let size = |path: &std::path::Path| {
        let length = std::fs::metadata(path).expect("a file of the appliance").len();
        [length as f64 / 1e6]
    };
    vec![
        Figure::new("vmlinux-size", "MB", &size(&appliance.kernel)),
        Figure::new("root-image-size", "MB", &size(&appliance.root)),
    ]
}
