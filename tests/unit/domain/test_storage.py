from __future__ import annotations

import pytest

from tunnel_server.domain.storage import lost_with

OVERLAY = "150 73 0:64 / / rw,relatime master:4 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w"
NAMED = "167 150 254:0 /var/lib/docker/volumes/tunnel-server/_data /data rw,relatime master:1 - ext4 /dev/vda rw"
ANONYMOUS = NAMED.replace("tunnel-server", "ac3f516810f96528d0ec89b869f62950637f10f889d4e843b2192e2b023d24aa")
BOUND = "167 150 254:0 /srv/keys /data rw,relatime - ext4 /dev/vda rw"
EMPTY_DIR = "9 8 8:1 /var/lib/kubelet/pods/4f/volumes/kubernetes.io~empty-dir/data /data rw - ext4 /dev/sda1 rw"
CLAIMED = "9 8 8:1 /var/lib/kubelet/pods/4f/volumes/kubernetes.io~csi/pvc-1/mount /data rw - ext4 /dev/sda1 rw"
MEMORY = "168 150 0:73 / /data rw,nosuid - tmpfs tmpfs rw"
DISK = "1 0 8:1 / / rw - ext4 /dev/sda1 rw"


@pytest.mark.parametrize(
    ("mounts", "lost"),
    [
        ([OVERLAY], "this container: there is no volume"),
        ([OVERLAY, ANONYMOUS], "this container: its volume has no name"),
        ([OVERLAY, EMPTY_DIR], "this pod: its volume is an emptyDir"),
        ([OVERLAY, MEMORY], "the memory of this machine or container"),
        ([OVERLAY, MEMORY.replace(" rw,", " ro,")], ""),  # a Secret
        ([OVERLAY, MEMORY, ANONYMOUS], "this container: its volume has no name"),
        ([DISK, "2 1 0:64 / /data rw - overlay overlay rw"], ""),
        ([OVERLAY, NAMED], ""),
        ([OVERLAY, BOUND], ""),
        ([OVERLAY, CLAIMED], ""),
        ([NAMED, OVERLAY], ""),
        ([OVERLAY, MEMORY, NAMED], ""),
        ([DISK], ""),
        ([], ""),
        (["nonsense", "", "1 2 3 4"], ""),
    ],
)
def test_what_a_folder_goes_away_with_is_read_from_the_mounts(mounts: list[str], lost: str) -> None:
    assert lost_with("\n".join(mounts), "/data/ssh/ssh_host_key") == lost


def test_in_a_container_the_root_is_its_own_whatever_its_kind() -> None:
    assert lost_with(DISK.replace("ext4", "btrfs"), "/data", in_container=True) == "this container: there is no volume"
    assert lost_with("\n".join([DISK, NAMED]), "/data", in_container=True) == ""


def test_a_mount_is_another_folders_business() -> None:
    assert lost_with("\n".join([OVERLAY, NAMED]), "/database/key") == "this container: there is no volume"
    assert lost_with("\n".join([OVERLAY, NAMED]), "/data") == ""


def test_blanks_of_a_mount_point_are_written_in_octal() -> None:
    spaced = NAMED.replace(" /data ", r" /my\040data ")

    assert lost_with("\n".join([OVERLAY, spaced]), "/my data/key") == ""
