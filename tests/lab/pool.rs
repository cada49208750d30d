//! An IPAM plugin of somebody else's.

use std::fs;

use serde_json::json;

use super::{Lab, Plugin, programs};

/// A network whose IPAM plugin gives 10.66.0.5 and those that follow, and at DEL writes the container's ID into `begun` and
/// does this; where it lies.
pub fn pooled(lab: &Lab, at_del: &str) -> (String, Plugin) {
    let directory = lab.work.path().join("pool").display().to_string();
    fs::create_dir_all(&directory).unwrap();
    let program = format!("{directory}/pool");
    let script = format!(
        "#!/bin/sh\nexec 2>/dev/null; here={directory}; cat >/dev/null\ncase $CNI_COMMAND in\n\
         ADD) n=$(cat $here/next || echo 5); echo $((n+1)) >$here/next\n\
         echo '{{\"cniVersion\":\"1.1.0\",\"ips\":[{{\"address\":\"10.66.0.'$n'/24\"}}]}}' ;;\n\
         DEL) echo $CNI_CONTAINERID >>$here/begun; {at_del} ;;\nesac\n"
    );
    programs::put(&program, &script);
    let network =
        lab.plugin(json!({"name": "pooled", "bridge": "br8", "gcAfter": 1, "ipam": {"type": "pool"}}));
    (directory.clone(), network.env("CNI_PATH", &directory))
}
