# SPDX-License-Identifier: BSD-2-Clause
"""A database in the guest that writes all the time, each row through to its disk: none of them may be missing afterwards."""
import client
import guest_tools

TOOLS = ["mkfs.ext4", "e2fsck", "sqlite3"]
WRITER = """
i=0
while [ ! -e /tmp/db.stop ]; do
	i=$((i+1))
	sqlite3 /mnt/db "pragma synchronous=full; insert into t values($i, hex(randomblob(1000)));" || { echo row $i >>/tmp/db.bad; break; }
	echo $i >/tmp/db.rows
done
touch /tmp/db.over
"""


class Database:
    def __init__(self, address, device):
        self.address, self.device = address, device

    def shell(self, command, seconds=20):
        return client.shell(self.address, command, seconds)

    def start(self):
        guest_tools.bring(self.address, TOOLS)
        self.shell("rm -f /tmp/db.*; mkdir -p /mnt", 10)
        guest_tools.run(self.address, "mkfs.ext4", f"-q -F {self.device}", 30)
        self.shell(f"mount -t ext4 {self.device} /mnt")
        guest_tools.run(self.address, "sqlite3", "/mnt/db 'create table t(n, text);'", 20)
        self.shell("cat >/tmp/db.sh <<'X'\n" + WRITER + "X\n(sh /tmp/db.sh >/tmp/db.log 2>&1 </dev/null &)")
        self.goes_on()

    def rows(self):
        return int(self.shell("cat /tmp/db.rows 2>/dev/null || true").strip() or 0)  # none yet, or just being written

    def goes_on(self, rows=5):
        """It has written more, and nothing has failed."""
        first = self.rows()
        client.until(lambda: self.rows() >= first + rows, 30, "row of the database")
        bad = self.shell("cat /tmp/db.bad /tmp/db.log 2>/dev/null || true")
        assert not bad, bad

    def stop(self):
        """Every row that was acknowledged is there, the database is whole, and so is the file system. How many rows."""
        self.shell("touch /tmp/db.stop")
        client.until(lambda: "over" in self.shell("test -e /tmp/db.over && echo over || true"), 30, "end of the database's writer")
        rows = self.rows()
        said = guest_tools.run(self.address, "sqlite3", "/mnt/db 'select count(*) from t; pragma integrity_check;'", 30).split()
        assert said == [str(rows), "ok"], f"{said}, and {rows} rows were written"
        self.shell("umount /mnt")
        said = guest_tools.run(self.address, "e2fsck", f"-f -n {self.device}", 60)
        assert "clean" in said or "non-contiguous" in said, said
        return rows
