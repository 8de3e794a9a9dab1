-- The servers of others for scripts/bench/echo.lua, each as good as its documentation says how: a
-- list of {name, file, source, needs = what has to run, run = the command, build = before it}.
-- In the commands $F is the file and $D its directory. Each serves as its argument says.
return {
  {
    name = "node",
    file = "server.js",
    needs = "node --version",
    run = "node $F",
    source = [[
const net = require('net');
const serves = process.argv[2], chunk = Buffer.alloc(65536);
const server = net.createServer({noDelay: true}, s => {
  s.on('error', () => s.destroy());
  if (serves === 'echo') {
    s.on('data', d => { if (!s.write(d)) s.pause(); });
    s.on('drain', () => s.resume());
  } else if (serves === 'sink') {
    s.on('data', () => {});
  } else {
    const fill = () => { while (s.write(chunk)); };
    s.on('drain', fill);
    fill();
  }
});
server.listen({port: 0, host: '127.0.0.1', backlog: 1024}, () => console.log(server.address().port));
]],
  },
  {
    name = "go",
    file = "server.go",
    needs = "go version",
    build = "cd $D && HOME=$D GOCACHE=$D/cache GOFLAGS=-mod=mod go build -o server_go server.go",
    run = "$D/server_go",
    source = [[
package main

import (
	"fmt"
	"net"
	"os"
)

func serve(c net.Conn, serves string) {
	defer c.Close()
	buf := make([]byte, 4096)
	for {
		n := len(buf)
		var err error
		if serves != "source" {
			if n, err = c.Read(buf); err != nil {
				return
			}
		}
		if serves != "sink" {
			if _, err = c.Write(buf[:n]); err != nil {
				return
			}
		}
		if n == len(buf) && n < 65536 {
			buf = make([]byte, 65536)
		}
	}
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr().(*net.TCPAddr).Port)
	for {
		c, err := l.Accept()
		if err == nil {
			go serve(c, os.Args[1])
		}
	}
}
]],
  },
  {
    name = "uvloop",
    file = "server.py",
    needs = "/usr/bin/python3 -c 'import uvloop'",
    run = "/usr/bin/python3 $F",
    source = [[
import asyncio, sys, uvloop
serves, chunk = sys.argv[1], bytes(65536)
class Peer(asyncio.Protocol):
    def connection_made(self, transport):
        self.t = transport
        if serves == 'source':
            self.wet = False
            self.resume_writing()
    def data_received(self, data):
        if serves == 'echo':
            self.t.write(data)
    def pause_writing(self):
        if serves == 'source':
            self.wet = True
        else:
            self.t.pause_reading()
    def resume_writing(self):
        if serves == 'source':
            self.wet = False
            while not self.wet:
                self.t.write(chunk)
        else:
            self.t.resume_reading()
async def main():
    server = await asyncio.get_running_loop().create_server(Peer, '127.0.0.1', 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.install()
asyncio.run(main())
]],
  },
}
