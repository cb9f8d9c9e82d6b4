#!/bin/sh
# Makes the archive of library classes that programs start from, and fails if the virtual machine would not use it.
set -eu
cd /tmp
export PATH=/opt/java/bin:$PATH
mkdir sample nothing
mv Training.java Main.java
javac -XDstringConcat=inline -d sample Main.java
echo '1 2' | java -Xshare:off -XX:DumpLoadedClassList=all.list -XX:+UseSerialGC -cp sample Main >/dev/null
grep -v -E '^#|^Main|@lambda-proxy Main|source:' all.list >library.list
# With the default collector: only it can archive objects, and the serial one can load them.
java -Xshare:dump -XX:SharedClassListFile=library.list -XX:SharedArchiveFile=/opt/evalx/java.archive -cp nothing -Xlog:disable
echo '1 2' | java -XX:SharedArchiveFile=/opt/evalx/java.archive -Xshare:on -XX:+UseSerialGC -cp sample Main >/dev/null
chmod 444 /opt/evalx/java.archive
