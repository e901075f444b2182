// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// The least that a relay in Node would be: sockets that wait, posts that reach
// them. It checks nothing.
//
//	node relay.mjs FOLDER-WITH-NODE_MODULES/ [CERT KEY]
import { createServer as plain } from 'node:http'
import { createServer as secure } from 'node:https'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const [web, cert, key] = process.argv.slice(2)
const { WebSocketServer } = createRequire(web)('ws')

const logins = new Map()
const posts = new Map()
let ref = 0

function serve(request, response) {
  let body = ''
  request.on('data', (part) => { body += part })
  request.on('end', () => {
    const socket = logins.get(request.url.slice('/api/1/'.length))
    if (!socket) {
      response.writeHead(404).end()
      return
    }
    posts.set(++ref, response)
    socket.send(`{"action":"post","ref":${ref},"body":${body}}`)
  })
}

const server = cert ? secure({ cert: readFileSync(cert), key: readFileSync(key) }, serve) : plain(serve)
const sockets = new WebSocketServer({ server, perMessageDeflate: false })
sockets.on('connection', (socket) => {
  socket.on('message', (data) => {
    const message = JSON.parse(data)
    if (message.action === 'expectauth') {
      logins.set(message.id, socket)
      socket.on('close', () => logins.delete(message.id))
      socket.send('{"action":"expectauth","result":"ok"}')
      return
    }
    const response = posts.get(message.ref)
    posts.delete(message.ref)
    response?.writeHead(message.status, { 'Content-Type': 'application/json' }).end(JSON.stringify(message.body))
  })
})
server.listen(0, '127.0.0.1', () => {
  process.stderr.write(`msg=listening address=127.0.0.1:${server.address().port}\n`)
})
